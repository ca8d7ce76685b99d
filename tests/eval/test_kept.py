"""Rows of other methods, kept from an earlier table."""

from __future__ import annotations

import json

import pytest

pytest.importorskip("surface_distance")

from eval.__main__ import main
from eval.kept import with_kept
from eval.report import markdown, summary_lines
from pipeline.errors import InputError

pytestmark = pytest.mark.training

ORIGIN = {"revision": "abc", "machine": "2 cores of X", "date": "2026-11-01"}
MEAN = {"mean": 0.8, "low": 0.7, "high": 0.9}


def row(title: str, images: int = 3, boxes: str = "true", **more) -> dict:
    source = {"class": "polyp", "images": images, "dice": 0.8, "iou": 0.7, "nsd": 0.6, "less_than_reference": MEAN}
    figures = {"images": images, "macro": dict.fromkeys(("dice", "iou", "nsd"), MEAN), "sources": {"a": source}}
    figures |= {"boxes": None, "milliseconds": {"p50": 5.0, "p90": 6.0}, "less_than_reference": MEAN}
    return {"title": title, "boxes": boxes, "figures": figures, **more}


def table(split: str = "test", **rows: dict) -> dict:
    named = {name.replace("_", "-"): of for name, of in rows.items()}
    return {"weights": {"version": "1.0.0"}, "split": split, **ORIGIN, "rows": named}


def saved(tmp_path, results: dict):
    path = tmp_path / "results.json"
    path.write_text(json.dumps(results))
    return path


def test_what_depends_on_no_release_is_kept(tmp_path):
    absent = {"title": "FastSAM", "boxes": "ours", "absent": "weights absent: x", "milliseconds": {"p50": 9.0}}
    earlier = table(
        int8=row("old"), box=row("box", boxes="ours"), litemedsam_true=row("L"), fastsam=absent, nnunet_a=row("N", 3)
    )
    reason = {"title": "L", "boxes": "ours", "reason": "no torch"}
    new = table(int8=row("new"), litemedsam=reason, ellipse_true=row("E"))
    new["revision"] = "def"
    rows = with_kept(new, saved(tmp_path, earlier))["rows"]
    assert list(rows) == ["int8", "ellipse-true", "litemedsam", "litemedsam-true", "fastsam", "nnunet-a"]
    assert rows["int8"] == new["rows"]["int8"]
    assert "kept" not in rows["ellipse-true"]
    assert rows["fastsam"] == absent | {"kept": ORIGIN}
    kept = rows["nnunet-a"]
    assert (kept["kept"], kept["figures"]["macro"]["dice"]) == (ORIGIN, MEAN)
    assert kept["figures"]["less_than_reference"] is kept["figures"]["sources"]["a"]["less_than_reference"] is None


def test_a_row_tells_where_it_was_measured_first(tmp_path):
    once = with_kept(table(int8=row("a")), saved(tmp_path, table(int8=row("a"), nnunet_a=row("N"))))
    again = table(int8=row("b")) | {"revision": "def", "machine": "Y"}
    twice = with_kept(again, saved(tmp_path, once | {"revision": "of the second"}))
    assert twice["rows"]["nnunet-a"]["kept"] == ORIGIN
    for text in (markdown(twice), "\n".join(summary_lines(twice))):
        assert "| N (kept) |" in text
        assert text.count("Kept are rows measured on 2026-11-01, 2 cores of X, revision abc.") == 1
    assert "(kept)" not in markdown(table(int8=row("a")))


def test_what_this_table_has_is_its_own(tmp_path):
    new = table(int8=row("a"), nnunet_a=row("mine"))
    assert with_kept(new, saved(tmp_path, table(int8=row("a"), nnunet_a=row("old")))) == new


@pytest.mark.parametrize(
    ("earlier", "said"),
    [
        (table("val", int8=row("a"), nnunet_a=row("N")), "a table of the val split; expected one of the test split"),
        (table(int8=row("a", 5), nnunet_a=row("N", 5)), "'N' has 5 images of a; expected 3, as this table has"),
        ({"rows": []}, "unreadable .*; expected results.json of an earlier `table`"),
        ([], "unreadable .*; expected results.json of an earlier `table`"),
    ],
    ids=["split", "images", "no table", "a list"],
)
def test_another_table_is_refused(tmp_path, earlier, said):
    with pytest.raises(InputError, match=said):
        with_kept(table(int8=row("a")), saved(tmp_path, earlier))


def test_the_command_keeps(data, tmp_path, release, capsys):
    def run(out: str, *words: object) -> int:
        common = ["--data", data, "--out", tmp_path / out, "--weights", release.folder, "--threads", 1]
        return main(["table", *map(str, (*common, *words))])

    assert run("first", "--rows", "ellipse-true,box") == 0
    earlier = tmp_path / "first" / "results.json"
    assert run("second", "--rows", "int8", "--keep", earlier) == 0
    results = json.loads((tmp_path / "second" / "results.json").read_text())
    assert list(results["rows"]) == ["int8", "ellipse-true"]
    assert "| ellipse in the box (kept) | true |" in capsys.readouterr().out
    assert run("third", "--rows", "int8", "--limit", 1, "--keep", earlier) == 2
    assert "the same --split, --limit and --sources" in capsys.readouterr().err
