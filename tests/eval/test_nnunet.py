"""nnU-Net, from a data set to a row of the table, on a handful of small drawn images and volumes."""

from __future__ import annotations

import json

import nibabel
import numpy as np
import pytest
from PIL import Image

pytest.importorskip("nnunetv2")

from eval.__main__ import main

pytestmark = [
    pytest.mark.baselines,
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning"),
    pytest.mark.filterwarnings("ignore::RuntimeWarning"),
]


@pytest.fixture
def images(tmp_path):
    """HC18's layout: drawn heads, four in train, two in val, two in test."""
    folder = tmp_path / "data" / "hc18_mini"
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:64, :96]
    for part in ("images", "masks"):
        (folder / part).mkdir(parents=True)
    splits = ["train"] * 4 + ["val"] * 2 + ["test"] * 2
    for number, _ in enumerate(splits):
        inside = (rows - 32) ** 2 + (columns - 40 - number) ** 2 < 20**2
        pixels = rng.integers(0, 40, (64, 96), np.uint8) + inside * np.uint8(120)
        Image.fromarray(pixels).save(folder / "images" / f"00{number}_HC.png")
        Image.fromarray(inside).save(folder / "masks" / f"00{number}_HC.png")
    lines = [f"00{number},{split}" for number, split in enumerate(splits)]
    (folder / "splits.csv").write_text("\n".join(["exam,split", *lines]) + "\n")
    return folder


def nnunet(step: str, folder, out, *words: object) -> int:
    return main(["nnunet", step, "--source", str(folder), "--out", str(out), *map(str, words)])


def test_images_become_a_row(images, tmp_path, release, capsys):
    out = tmp_path / "nnunet"
    assert nnunet("train", images, out) == 2
    assert "eval nnunet prepare" in capsys.readouterr().err
    assert not out.exists()
    assert nnunet("prepare", images, out, "--memory-gb", 0.5) == 0
    raw = out / "hc18_mini" / "raw" / "Dataset001_hc18_mini"
    assert sorted(path.name for path in (raw / "imagesTr").iterdir())[0] == "000_HC_0000.png"
    assert len(list((raw / "labelsTr").iterdir())) == 6
    assert np.unique(np.asarray(Image.open(raw / "labelsTr" / "000_HC.png"))).tolist() == [0, 1]
    assert nnunet("predict", images, out) == 2
    assert "eval nnunet train" in capsys.readouterr().err

    assert nnunet("train", images, out, "--minutes", 0.02, "--threads", 1) == 0
    first = json.loads((out / "hc18_mini" / "train.json").read_text())
    assert nnunet("train", images, out, "--minutes", 0.1, "--threads", 1) == 0  # goes on
    training = json.loads((out / "hc18_mini" / "train.json").read_text())
    assert training["iterations"] > first["iterations"] >= 1
    assert training["minutes"] >= 0.1
    assert nnunet("train", images, out, "--minutes", 0.05, "--threads", 1) == 0  # spent already
    assert json.loads((out / "hc18_mini" / "train.json").read_text())["iterations"] == training["iterations"]

    assert nnunet("predict", images, out, "--limit", 1, "--threads", 1) == 0
    masks = out / "hc18_mini" / "predictions" / "test"
    made = (masks / "006_HC.png").stat().st_mtime_ns
    assert nnunet("predict", images, out, "--threads", 1) == 0
    assert (masks / "006_HC.png").stat().st_mtime_ns == made  # kept
    assert np.asarray(Image.open(masks / "007_HC.png")).shape == (64, 96)

    words = ["--data", images.parent, "--out", tmp_path / "table", "--weights", release.folder, "--threads", 1]
    assert main(["table", *map(str, [*words, "--rows", "nnunet", "--nnunet", out])]) == 0
    row = json.loads((tmp_path / "table" / "results.json").read_text())["rows"]["nnunet-hc18_mini"]
    assert f"{training['iterations']} iterations" in row["title"]
    assert (row["boxes"], row["figures"]["images"], row["bytes"]) == ("none", 2, training["bytes"])
    assert row["figures"]["milliseconds"]["p50"] > 0


def test_volumes_are_cut_as_ours(tmp_path):
    """A volume's array is what our own networks see of its slices, and a predicted slice lies where ours does."""
    folder = tmp_path / "Task04"
    for part in ("imagesTr", "labelsTr"):
        (folder / part).mkdir(parents=True)
    rng = np.random.default_rng(0)
    entries = []
    for number in range(3):
        labels = np.zeros((20, 14, 24), np.uint8)
        labels[6:14, 3:9, 8:16] = 1 + number % 2
        image = rng.integers(0, 50, labels.shape).astype(np.float32) + 200 * (labels > 0)
        for part, array in (("imagesTr", image), ("labelsTr", labels)):
            nibabel.save(nibabel.Nifti1Image(array, np.eye(4)), folder / part / f"hippocampus_00{number}.nii.gz")
        entries.append({"image": f"./imagesTr/hippocampus_00{number}.nii.gz"})
        entries[-1]["label"] = f"./labelsTr/hippocampus_00{number}.nii.gz"
    description = {"name": "Hippocampus", "modality": {"0": "MRI"}, "training": entries}
    description["labels"] = {"0": "background", "1": "Anterior", "2": "Posterior"}
    (folder / "dataset.json").write_text(json.dumps(description))
    lines = [f"hippocampus_00{number},{split}" for number, split in enumerate(("train", "val", "test"))]
    (folder / "splits.csv").write_text("\n".join(["volume,split", *lines]) + "\n")

    from eval.nnunet.cases import cases_of
    from eval.nnunet.prepare import _write
    from pipeline.datasets import read_source

    source = read_source(folder)
    (case,) = cases_of(source, "test")
    pixels, truth = case.load(1)
    assert (pixels.shape, truth.shape) == ((1, 14, 24, 20), (14, 24, 20))  # slices along the source's axis, 1
    assert truth.sum() == 8 * 6 * 8
    _write(tmp_path / "case.nii.gz", pixels)
    from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO

    read, properties = SimpleITKIO().read_images([str(tmp_path / "case.nii.gz")])
    assert np.array_equal(read, pixels)
    assert properties["spacing"] == [1, 1, 1]
    assert np.array_equal(case.samples[5].load()[0][..., 0], read[0, 5])
