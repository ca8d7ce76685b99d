"""Tables and report of results that were put there by hand."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from PIL import Image

from pipeline import InputError
from pipeline.batch.answers import new_results, write_failure
from pipeline.batch.charts import bar_chart
from pipeline.batch.listing import Input

pytestmark = pytest.mark.batch
parquet = pytest.importorskip("pyarrow.parquet")

WEIGHTS = {"version": "9", "sha256": "ab" * 32}
SETTINGS = {"weights": WEIGHTS, "precision": "int8"}


def detection(label: str, class_id: int, score: float, area: int) -> dict:
    return {"label": label, "class_id": class_id, "score": score, "box": [1.0, 2.0, 3.0, 4.0], "mask_iou": 0.5,
            "area_px": area, "area_mm2": None}  # fmt: skip


def image(*detections: dict, out_of_scope: bool = False) -> dict:
    record = {"width": 20, "height": 10, "out_of_scope": out_of_scope, "detections": list(detections)}
    return record | {"precision": "int8", "weights": WEIGHTS, "timings_ms": {"read": 1.0, "total": 30.0}}


def volume() -> dict:
    found = {"label": "lung", "class_id": 3, "score": 0.4, "span": [2, 5], "volume_ml": 1.5, "longest_diameter_mm": 9.0}
    record = {"kind": "volume", "shape": [7, 10, 20], "objects": [found], "precision": "int8", "weights": WEIGHTS}
    return record | {"timings_ms": {"read": 1.0, "memory": 2.0, "total": 50.0}}


@pytest.fixture
def out(tmp_path) -> Path:
    """Two images with regions, one of them twice; an image without; a volume; two failures of a kind; a lost file."""
    from pipeline.batch.report import write_report
    from pipeline.batch.tables import write_tables

    records = {
        "a": image(detection("polyp", 5, 0.95, 1000), detection("lung", 3, 1.0, 1)),
        "b": image(detection("polyp", 5, 0.05, 10**9)),
        "c": image(out_of_scope=True),
        "d": volume(),
    }
    for name, record in records.items():
        with new_results(tmp_path, name * 64) as part:
            (part / f"{name}.json").write_text(json.dumps(record))
            Image.new("RGB", (30, 30), "red").save(part / f"{name}_overlay.png")
    for name in ("e", "f"):
        write_failure(tmp_path, name * 64, f"{name}.png", InputError(f"{name}.png", f"{ord(name)} series", "one"))
    answers = [(Input(f"{name}.png", (f"{name}.png",)), name * 64) for name in "abcdef"]
    answers.insert(1, (Input("<copy>.png", ("copy.png",)), "a" * 64))
    answers.append((InputError("gone.png", "no such file", "a file"), None))
    assert write_tables(tmp_path, answers) == {"inputs": 8, "detections": 6, "failures": 3, "timings": 4}
    write_report(tmp_path, SETTINGS)
    return tmp_path


def test_detections(out):
    rows = parquet.read_table(out / "detections.parquet").to_pylist()
    assert [(row["input"], row["region"], row["label"], row["score"]) for row in rows] == [
        ("a.png", 1, "polyp", 0.95),
        ("a.png", 2, "lung", 1.0),
        ("<copy>.png", 1, "polyp", 0.95),
        ("<copy>.png", 2, "lung", 1.0),
        ("b.png", 1, "polyp", 0.05),
        ("d.png", 1, "lung", 0.4),
    ]
    assert rows[0] == {
        **{"input": "a.png", "sha256": "a" * 64, "region": 1, "label": "polyp", "class_id": 5, "score": 0.95},
        **{"box_x": 1.0, "box_y": 2.0, "box_width": 3.0, "box_height": 4.0, "mask_iou": 0.5, "area_px": 1000},
        **{"area_mm2": None, "first": None, "last": None, "volume_ml": None, "longest_diameter_mm": None},
        **{"weights_version": "9", "weights_sha256": "ab" * 32, "precision": "int8"},
    }
    assert [rows[5][name] for name in ("first", "last", "volume_ml", "box_x", "area_px")] == [2, 5, 1.5, None, None]


def test_failures_and_times(out):
    failures = parquet.read_table(out / "failures.parquet").to_pylist()
    assert [(row["input"], row["sha256"], row["problem"]) for row in failures] == [
        ("e.png", "e" * 64, "101 series"),
        ("f.png", "f" * 64, "102 series"),
        ("gone.png", None, "no such file"),
    ]
    times = parquet.read_table(out / "timings.parquet").to_pylist()
    assert [(row["sha256"][0], row["memory_ms"], row["total_ms"]) for row in times] == [
        ("a", None, 30.0),
        ("b", None, 30.0),
        ("c", None, 30.0),
        ("d", 2.0, 50.0),
    ]


def test_what_is_counted(out):
    from pipeline.batch.summary import SIZE_BINS, summarise

    summary = summarise(out)
    assert (summary.statuses, summary.kinds) == ({"done": 5, "failed": 3}, {"image": 4, "volume": 1})
    assert (summary.nothing_found, summary.out_of_scope) == (1, 1)
    assert [entry[:2] for entry in summary.most_sure] == [(1.0, "a.png"), (0.4, "d.png"), (0.05, "b.png")]
    assert summary.least_sure == summary.most_sure[::-1]
    polyp, lung = summary.labels["polyp"], summary.labels["lung"]
    assert (polyp.regions, polyp.inputs, lung.regions, lung.inputs) == (3, 3, 3, 3)
    assert (polyp.scores[19], polyp.scores[1], lung.scores[19], lung.scores[8]) == (2, 1, 2, 1)
    # 1000 pixels are three of eight decades, 1.5 ml three of eight and a little; what is larger than all is in the last
    assert (polyp.pixels[SIZE_BINS * 3 // 8], polyp.pixels[-1], lung.pixels[0]) == (2, 1, 2)
    assert lung.millilitres[SIZE_BINS * 3 // 8] == 1
    assert {problem: failure.count for problem, failure in summary.failures.items()} == {
        "N series": 2,
        "no such file": 1,
    }


def test_the_report_shows_them_and_quotes_names(out):
    report = (out / "report.html").read_text("utf-8")
    assert '<td>segmented</td><td class="number">5</td>' in report
    assert '<td>N series</td><td class="number">2</td><td>e.png: 101 series; expected one<br>' in report
    assert "<copy>" not in report
    assert report.count("data:image/jpeg;base64,") == 6
    assert len(re.findall("<svg ", report)) == 5  # scores and areas of both classes, volumes of one


def test_bars_are_as_high_as_their_counts():
    chart = bar_chart([0, 2, 4], ("0", "<1>"), "red", "scores")
    heights = [float(height) for height in re.findall(r'<rect [^>]*height="([\d.]+)"', chart)]
    assert heights[0] == 0 and heights[2] == 2 * heights[1] > 0
    assert "&lt;1&gt;" in chart


def test_an_archive_of_nothing_has_tables_and_a_report(tmp_path):
    from pipeline.batch.report import write_report
    from pipeline.batch.tables import write_tables

    assert set(write_tables(tmp_path, []).values()) == {0}
    assert "None." in write_report(tmp_path, SETTINGS).read_text("utf-8")
