"""The comparison table: its parts by value, and the command on a miniature data set."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("surface_distance")

from eval.__main__ import main
from eval.baselines.lite_medsam import LiteMedSAM
from eval.contact_sheet import pick
from eval.intervals import macro_interval, macro_mean
from eval.measure import chosen
from eval.metrics import surface_dice
from eval.outliners import box, ellipse
from eval.records import Record, read_records, write_records
from eval.rows import ROWS
from eval.summary import summarise_row
from pipeline.datasets import Sample, Source
from pipeline.errors import InputError

pytestmark = pytest.mark.training


def test_intervals_are_by_patient():
    rng = np.random.default_rng(0)
    alone = {"a": [(f"p{number}", float(value)) for number, value in enumerate(rng.uniform(0, 1, 200))]}
    copies = {"a": [(patient, value) for patient, value in alone["a"] for _ in range(10)]}
    low, high = macro_interval(alone)
    assert low < macro_mean(alone) < high
    assert high - low == pytest.approx(4 * np.sqrt(1 / 12 / 200), rel=0.15)  # as the central limit theorem has it
    assert macro_interval(copies) == pytest.approx((low, high))  # ten times the images, not a patient more
    assert macro_interval({"a": [("p", 0.5)], "b": [("p", 1.0)]}) == (0.75, 0.75)


def square(left: int, top: int, side: int, size: int = 200) -> np.ndarray:
    mask = np.zeros((size, size), bool)
    mask[top : top + side, left : left + side] = True
    return mask


@pytest.mark.parametrize(
    ("found", "truth", "expected"),
    [
        pytest.param(square(50, 50, 80), square(50, 50, 80), 1.0, id="the same"),
        pytest.param(square(52, 50, 80), square(50, 50, 80), 1.0, id="two pixels off, of a diagonal of 283"),
        pytest.param(square(58, 50, 80), square(50, 50, 80), 0.5, id="eight pixels off: half of the sides"),
        pytest.param(square(0, 0, 20), square(100, 100, 80), 0.0, id="far off"),
        pytest.param(square(0, 0, 0), square(100, 100, 80), 0.0, id="nothing found"),
        pytest.param(square(0, 0, 0), square(0, 0, 0), 1.0, id="both empty"),
        pytest.param(square(200, 200, 1400, 2000), square(216, 200, 1400, 2000), 1.0, id="a large image"),
    ],
)
def test_surface_dice(found, truth, expected):
    assert surface_dice(found, truth) == pytest.approx(expected, abs=0.06)


def test_outliners_fill_their_boxes():
    pixels, boxes = np.zeros((100, 200, 3), np.uint8), np.float32([[20, 10, 120, 90]])
    assert box(pixels, boxes).sum() == 100 * 80
    drawn = ellipse(pixels, boxes)
    assert drawn.sum() == pytest.approx(np.pi / 4 * 100 * 80, rel=0.01)
    assert not (drawn & ~box(pixels, boxes)).any()


def test_litemedsam_outlines_a_disc():
    rows, columns = np.mgrid[:300, :400]
    disc = (rows - 140) ** 2 + (columns - 220) ** 2 < 60**2
    pixels = np.repeat((30 + 150 * disc).astype(np.uint8)[..., None], 3, axis=2)
    found = LiteMedSAM().outline(pixels, np.float32([[160, 80, 280, 200]]))
    assert 2 * (found & disc).sum() / (found.sum() + disc.sum()) > 0.9


def record(sample: str, dice: float | None, **changes: object) -> Record:
    numbers = {"dice": dice, "iou": dice, "nsd": dice, "milliseconds": 10.0, "boxes": [], "others": 0}
    return Record("s", sample, sample, "polyp", **numbers | {"true_boxes": [], "proposals": []} | changes)


def test_a_row_is_summarised():
    hit = {"boxes": [[0, 0, 10, 10]], "true_boxes": [[0, 0, 10, 8]], "proposals": [[0, 0, 10, 10, 0.9, "polyp"]]}
    records = [record("a", 0.8, **hit), record("b", 0.0, true_boxes=[[5, 5, 9, 9]]), record("c", None, others=2)]
    reference = {r.key: r for r in (record("a", 0.9), record("b", 0.5))}
    row = summarise_row(records, reference)
    assert row["macro"]["dice"]["mean"] == 0.4
    assert row["less_than_reference"]["mean"] == pytest.approx(-0.3)
    assert row["boxes"]["recall_50"] == 0.5
    assert row["boxes"]["matched_iou"] == pytest.approx(0.8)
    assert row["boxes"]["false_positives_per_empty_image"] == 2
    assert row["boxes"]["ap50"] == pytest.approx(0.5, abs=0.01)
    assert row["sources"]["s"]["images"] == 2


def test_records_survive_a_stop(tmp_path):
    path, about = tmp_path / "rows" / "int8.jsonl", {"weights": "abc"}
    write_records(path, about, [record("a", 0.8), record("b", 0.5)])
    path.write_text(path.read_text()[:-20])  # stopped within a line
    assert list(read_records(path, about)) == [("s", "a")]
    write_records(path, about, [record("c", 0.1)])
    assert [key[1] for key in read_records(path, about)] == ["a", "c"]
    with pytest.raises(InputError, match="name another --out"):
        read_records(path, {"weights": "other"})


def test_a_sheet_shows_both_ends_and_the_middle():
    records = [record(f"{number:02d}", number / 20) for number in range(20)] + [record("empty", None)]
    assert [picked.sample for picked in pick(records)] == ["00", "01", "02", "09", "10", "18", "19"]
    assert [picked.sample for picked in pick(records[:3])] == ["00", "01", "02"]


def samples(**counts: int) -> list[Source]:
    return [
        Source(name, "", ("polyp",), [Sample(f"{name}{n}", "p", lambda: None, split="test") for n in range(count)])
        for name, count in counts.items()
    ]


@pytest.mark.parametrize(
    ("limit", "expected"), [(None, (3, 100, 20)), (30, (3, 14, 13)), (9, (3, 3, 3)), (1000, (3, 100, 20))]
)
def test_a_limit_takes_from_every_source(limit, expected):
    picked = chosen(samples(a=3, b=100, c=20), "test", limit)
    assert tuple(sum(source.name == name for source, _ in picked) for name in "abc") == expected


def run(data, out, release, *words: object) -> int:
    common = ["--data", data, "--out", out, "--weights", release.folder, "--threads", 1]
    return main(["table", *map(str, (*common, *words))])


def test_the_table_is_made_and_goes_on(data, tmp_path, release, capsys):
    rows = ("--rows", "int8-true,ellipse-true,ellipse,fp16")
    assert run(data, tmp_path / "whole", release, *rows) == 0
    whole = json.loads((tmp_path / "whole" / "results.json").read_text())
    assert list(whole["rows"]) == ["int8", "fp16", "int8-true", "ellipse", "ellipse-true"]
    assert "CUDA" in whole["rows"]["fp16"]["reason"]
    assert whole["rows"]["ellipse-true"]["figures"]["macro"]["dice"]["mean"] > 0.97
    assert whole["rows"]["int8"]["figures"]["images"] == 3
    with (tmp_path / "whole" / "table.csv").open() as file:
        lines = list(csv.reader(file))
    assert {len(line) for line in lines} == {len(lines[0])}
    assert [line[0] for line in lines[1:]] == [ROWS[name].title for name in whole["rows"]]
    for plot in ("dice_and_time.png", "sources.png", "cases.png"):
        assert np.asarray(Image.open(tmp_path / "whole" / plot).convert("L")).std() > 5

    # the same again, in two runs, the first stopped after two images of its first row
    assert run(data, tmp_path / "parts", release, "--rows", "int8") == 0
    file = tmp_path / "parts" / "rows" / "int8.jsonl"
    file.write_text("\n".join(file.read_text().splitlines()[:3])[:-5])
    assert run(data, tmp_path / "parts", release, *rows) == 0
    parts = json.loads((tmp_path / "parts" / "results.json").read_text())
    for results in (whole, parts):
        for row in results["rows"].values():
            row.get("figures", {}).pop("milliseconds", None)
    assert parts["rows"] == whole["rows"]


def test_bad_data_is_named_before_any_work(data, tmp_path, release, capsys):
    assert run(data, tmp_path / "out", release, "--split", "val") == 2
    assert "no image is in val" in capsys.readouterr().err
    broken = tmp_path / "data" / "hc18_mini"
    for part in ("images", "masks"):
        (broken / part).mkdir(parents=True)
        for file in (data / "hc18_mini" / part).iterdir():
            (broken / part / file.name).write_bytes(file.read_bytes())
    (broken / "splits.csv").write_text((data / "hc18_mini" / "splits.csv").read_text())
    Image.new("L", (40, 30)).save(broken / "masks" / "001_HC.png")
    assert run(tmp_path / "data", tmp_path / "out", release) == 2
    assert "001_HC" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
