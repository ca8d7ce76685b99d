"""The comparison table: its parts by value, and the command on a miniature data set."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("surface_distance")

from eval.__main__ import main
from eval.baselines.lite_medsam import LiteMedSAM
from eval.contact_sheet import pick
from eval.facts import Facts, write_facts
from eval.intervals import macro_interval, macro_mean
from eval.measure import chosen, measure_row, read_sources
from eval.metrics import surface_dice
from eval.outliners import box, ellipse
from eval.readme import fill_comparison
from eval.records import Record, read_records, write_records
from eval.report import COLUMNS, markdown, table_lines
from eval.row import Row, Setting
from eval.rows import ROWS, best_overlapping
from eval.summary import summarise_row
from eval.table import Table
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
    rows = ("--rows", "fp32,int8-true,ellipse-true,ellipse,fp16")
    assert run(data, tmp_path / "whole", release, *rows) == 0
    whole = json.loads((tmp_path / "whole" / "results.json").read_text())
    assert list(whole["rows"]) == ["int8", "fp32", "fp16", "int8-true", "ellipse", "ellipse-true"]
    half, whole_precision = (whole["rows"][name]["figures"]["macro"]["dice"]["mean"] for name in ("fp16", "fp32"))
    assert half == pytest.approx(whole_precision, abs=0.01)
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


def test_figures_and_table_agree(data, tmp_path, release, capsys):
    """The manifest's figures are the same from either command, and only a whole split gives them."""
    out = tmp_path / "table"
    assert run(data, out, release, "--rows", "int8", "--limit", 2) == 0
    assert json.loads((out / "results.json").read_text())["rows"]["int8"]["figures"]["images"] == 2
    assert not (out / "figures.json").exists()
    assert run(data, out, release, "--rows", "int8") == 0
    assert run(data, out, release, "--rows", "ellipse-true", "--limit", 2) == 0
    rows = json.loads((out / "results.json").read_text())["rows"]
    assert [row["figures"]["images"] for row in rows.values()] == [2, 2]  # all rows on the same images
    words = ["--data", data, "--weights", release.folder, "--precisions", "int8", "--threads", 1]
    assert main(["figures", *map(str, words), "--out", str(tmp_path / "figures.json")]) == 0
    of_table, of_figures = (json.loads(path.read_text()) for path in (out / "figures.json", tmp_path / "figures.json"))
    for figures in (of_table, of_figures):
        figures["int8"].pop("total_ms_median")
    assert of_table["int8"] == of_figures["int8"]
    assert of_table["command"].startswith("python -m eval table")


def copied(data, tmp_path) -> Path:
    """The miniature data set, to be broken."""
    shutil.copytree(data, tmp_path / "data")
    return tmp_path / "data" / "hc18_mini"


def other_size(folder: Path) -> None:
    Image.new("L", (40, 30)).save(folder / "masks" / "001_HC.png")


def no_mask(folder: Path) -> None:
    (folder / "masks" / "001_HC.png").unlink()


def empty_split(folder: Path) -> None:
    (folder / "splits.csv").write_text("exam,split\n000,train\n001,train\n002,val\n")


def unknown_class(folder: Path) -> None:
    """Another data set beside it, of a class that no release knows."""
    other = folder.parent / "Task09_Spleen"
    for part in ("imagesTr", "labelsTr"):
        (other / part).mkdir(parents=True)
    labels = {"0": "background", "1": "spleen"}
    description = {"name": "Spleen", "modality": {"0": "CT"}, "labels": labels, "training": []}
    (other / "dataset.json").write_text(json.dumps(description))


def half_a_volume_list(folder: Path) -> None:
    unknown_class(folder)
    (folder.parent / "Task09_Spleen" / "dataset.json").write_text("{}")


@pytest.mark.parametrize(
    ("break_", "said"),
    [
        (other_size, ["001_HC", "40x30", "400x270"]),
        (no_mask, ["001_HC"]),
        (empty_split, ["no image is in test"]),
        (unknown_class, ["Task09_Spleen", "'spleen'", "fetal_head"]),
        (half_a_volume_list, ["dataset.json", "lacks"]),
    ],
)
def test_bad_data_is_named_before_any_work(data, tmp_path, release, capsys, break_, said):
    folder = copied(data, tmp_path)
    break_(folder)
    assert run(tmp_path / "data", tmp_path / "out", release) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert [part for part in said if part not in error] == []
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--split", "val"], "no image is in val"),
        (["--sources", "kvasir"], "no data set 'kvasir'"),
        (["--limit", "0"], "--limit"),
        (["--rows", "nnunet-nothing"], "no row 'nnunet-nothing'"),
    ],
)
def test_what_is_not_there_is_said(data, tmp_path, release, capsys, words, said):
    assert run(data, tmp_path / "out", release, *words) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_named_sources_leave_others_alone(data, tmp_path, release):
    unknown_class(copied(data, tmp_path))
    words = ["--sources", "hc18_mini", "--rows", "ellipse-true", "--limit", 1]
    assert run(tmp_path / "data", tmp_path / "out", release, *words) == 0


def test_records_of_another_release_are_refused(data, tmp_path, release, capsys):
    """What depends on the release is not mixed with another's; what doesn't stays."""
    out = tmp_path / "table"
    assert run(data, out, release, "--rows", "ellipse-true", "--limit", 1) == 0
    for name in ("int8", "ellipse-true"):
        lines = (out / "rows" / f"{name}.jsonl").read_text().splitlines()
        assert ("weights" in json.loads(lines[0])) == (name == "int8")
    path = out / "rows" / "int8.jsonl"
    path.write_text(path.read_text().replace(release.files_sha256, "0" * 64))
    assert run(data, out, release, "--rows", "ellipse-true", "--limit", 1) == 2
    assert "name another --out" in capsys.readouterr().err


def test_environments_make_one_table(data, tmp_path, release):
    """A row that only another environment can open keeps what that one found."""
    samples = chosen(read_sources(data, ("fetal_head",)), "test", 1)

    def lacking(setting):
        raise InputError("MobileSAM", "the package is not installed", "another environment")

    def table() -> Table:
        made = Table(tmp_path, release, Setting(str(release.folder), 1), samples)
        made.rows["mobilesam"] = Row("mobilesam", "MobileSAM", "ours", lacking)
        return made

    table().fill(table().rows["mobilesam"])
    assert "not installed" in table().summarise()["rows"]["mobilesam"]["reason"]
    facts = Facts(bytes=40, absent="weights absent: a file", milliseconds=[3.0, 5.0])
    write_facts(tmp_path / "rows" / "mobilesam.json", facts)
    table().fill(table().rows["mobilesam"])
    row = table().summarise()["rows"]["mobilesam"]
    assert (row["bytes"], row["absent"], row["milliseconds"]["p50"]) == (40, "weights absent: a file", 4.0)


def test_an_oracle_takes_the_best_mask_of_every_region():
    left, right = square(10, 10, 40), square(120, 120, 40)
    masks = [square(0, 0, 200), square(12, 10, 40), square(100, 100, 80), square(60, 60, 20)]
    assert np.array_equal(best_overlapping(masks, [left, right], (200, 200)), masks[1] | masks[2])
    assert not best_overlapping([masks[3]], [left], (200, 200)).any()
    assert not best_overlapping([], [left], (200, 200)).any()


def test_memory_stays_flat(data, release):
    """No image is kept: over 60 more images the process grows by less than a few of them."""
    psutil = pytest.importorskip("psutil")
    (source,) = read_sources(data, ("fetal_head",))
    ready = ROWS["int8"].open(Setting(str(release.folder), 1))
    process, sizes = psutil.Process(), []
    for record in measure_row("int8", ready, [(source, source.samples[0])] * 80, {}):
        assert record.sample == "000_HC"
        sizes.append(process.memory_info().rss)
    assert sizes[-1] - sizes[19] < 20e6


def test_a_table_says_what_it_knows():
    """Cells by value: a row that ran, one that lacks its weights, one that did not run; and both questions' answers."""
    interval = {"mean": 0.8, "low": 0.7, "high": 0.9}
    figures = {"images": 3, "macro": {"dice": interval, "iou": interval, "nsd": None}, "boxes": None}
    figures |= {"milliseconds": {"p50": 12.4}, "less_than_reference": {"mean": -0.1, "low": -0.2, "high": 0.05}}
    loss, none = {"mean": 0.2, "low": 0.1, "high": 0.3}, {"mean": 0.0, "low": -0.1, "high": 0.1}
    sources = {"a": {"dice": 0.7, "less_than_reference": loss}, "b": {"dice": 0.0, "less_than_reference": none}}
    ours = {"title": "ours", "boxes": "automatic", "figures": figures | {"sources": sources}}
    better = figures | {"sources": sources, "less_than_reference": loss}
    rows = {
        "int8": ours | {"bytes": 49_000_000},
        "fp32": ours | {"title": "whole"},
        "int8-true": ours | {"boxes": "true", "figures": better},
        "fastsam-everything": {"title": "F", "boxes": "everything", "absent": "weights absent: f.pt; fetch it"},
        "medsam2": {"title": "M", "boxes": "ours", "reason": "no such package | here"},
    }
    rows["fastsam-everything"] |= {"bytes": 1_500_000, "milliseconds": {"p50": 99.6}}
    results = {"rows": rows, "split": "test", "machine": "m", "revision": "r", "weights": {"version": "1.0.0"}}
    lines = [dict(zip(COLUMNS, line, strict=True)) for line in table_lines(results)[1:]]
    assert [line["Dice"] for line in lines[3:]] == [
        "weights absent: f.pt; fetch it",
        "not run: no such package / here",
    ]
    assert [line["MB"] for line in lines] == ["49.0", "", "", "1.5", ""]
    assert [line["ms"] for line in lines] == ["12", "12", "12", "100", ""]
    assert [line["Dice against ours"] for line in lines[:3]] == [
        "",
        "-0.100 (-0.200 to +0.050)",
        "+0.200 (+0.100 to +0.300)",
    ]
    assert lines[1]["Dice"] == "0.800"
    assert "oracle" in lines[3]["boxes"]
    text = markdown(results)
    assert "| ours | automatic | 0.700 | 0.000 |" in text
    assert "No, over all sources: they cost 0.200 (0.100 to 0.300) Dice." in text
    assert "Worse: a (0.200 (0.100 to 0.300))." in text
    assert "No difference shown: b" in text
    assert "INT8 has -0.100 (-0.200 to 0.050) less Dice than FP32" in text
    assert fill_comparison("<!-- comparison -->\n<!-- /comparison -->", results).count("\n| ") == 7
