"""The figures on other devices' images, on a miniature data set that the release's own networks segment."""

from __future__ import annotations

import json

import numpy as np
import pytest

pytest.importorskip("scipy")

from eval.__main__ import main
from eval.devices import DEVICES, changed, turned
from eval.figures import manifest_figures
from eval.measure import measure_row, read_sources
from eval.row import Setting
from eval.rows import ROWS
from pipeline.training.other_device import CHANGES, windowed

pytestmark = pytest.mark.training


def test_a_row_a_change_on_the_same_images(data, tmp_path, release, capsys):
    out = tmp_path / "devices.json"
    words = ["--data", data, "--weights", release.folder, "--true-boxes", "--threads", 1, "--out", out]
    assert main(["devices", *map(str, words)]) == 0
    found = json.loads(out.read_text())
    names = ["as it is", *(change.__name__.replace("_", " ") for change in CHANGES), "several", "turned (MRI)"]
    assert list(found["rows"]) == names
    options = "--split test --limit 210 --precision int8 --true-boxes"
    assert found["command"] == f"python -m eval devices --data DATA {options}"
    assert all(row["sources"]["hc18_mini"]["images"] == 2 for row in found["rows"].values())
    table = [line.split(" | ") for line in capsys.readouterr().out.splitlines()]
    assert [cells[0] for cells in table] == ["|", "| ---", *(f"| {name}" for name in names)]
    assert table[2][-2:] == [f"{found['rows']['as it is']['macro']['dice']:.3f}", "1.000 |"]

    source = read_sources(data, ("fetal_head",))[0]
    row = ROWS["int8-true"].open(Setting(str(release.folder), 1, "test"))
    others = [(source, changed(sample, windowed, seed)) for seed, sample in enumerate(source.samples)]
    alone = manifest_figures(list(measure_row("windowed", row, others, {})))
    assert alone["macro"]["dice"] == found["rows"]["windowed"]["macro"]["dice"]


def test_turned_with_its_regions(data):
    source = read_sources(data, ("fetal_head",))[0]
    pixels, regions = source.samples[0].load()
    seen = set()
    for seed in range(12):
        other, (region,) = turned(source.samples[0], seed).load()
        quarters = [k for k in range(4) if np.array_equal(other, np.rot90(pixels, k))]
        assert np.array_equal(region.mask, np.rot90(regions[0].mask, quarters[0]))
        left, top, right, bottom = region.box.astype(int)
        assert region.mask[top:bottom, left:right].sum() == region.mask.sum()
        seen |= set(quarters)
    assert seen == {1, 2, 3}
    assert DEVICES["turned (MRI)"](source, source.samples[0], 0) is source.samples[0]  # an ultrasound


def test_the_truth_stays_and_each_image_has_a_device_of_its_own(data):
    first = read_sources(data, ("fetal_head",))[0].samples[0]
    pixels, regions = first.load()
    other, own = changed(first, windowed, 0).load()
    assert np.array_equal(regions[0].mask, own[0].mask)
    assert not np.array_equal(pixels, other)
    assert np.array_equal(other, changed(first, windowed, 0).load(every_pixel=True)[0])
    assert not np.array_equal(other, changed(first, windowed, 1).load()[0])
