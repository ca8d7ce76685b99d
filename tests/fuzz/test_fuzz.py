"""A short run over every reader, and what longer ones found, each kept as a small input."""

from __future__ import annotations

import gzip
import json
import struct
from collections.abc import Iterator
from pathlib import Path

import nibabel
import numpy as np
import pytest

from hub import Release
from hub.errors import WeightsError
from pipeline.edits import read_edits
from pipeline.errors import InputError
from pipeline.readers.nifti import label_map_as_stored
from pipeline.rle import decode_mask
from pipeline.scan import read_scan
from pipeline.stack import read_stack
from tests.fuzz import bombs
from tests.fuzz.__main__ import kinds_here
from tests.fuzz.pool import Worker
from tests.fuzz.seeds import KINDS, Seed, nifti, seeds_of
from tests.fuzz.takers import take
from tests.fuzz.worker import bomb_count

#: Of each kind: its first seed, then mutations.
_INPUTS = 9


@pytest.fixture(scope="module")
def worker(tmp_path_factory) -> Iterator[Worker]:
    worker = Worker(tmp_path_factory.mktemp("fuzz"), seed=0)
    yield worker
    worker.close()


@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=pytest.mark.training if kind == "coco" else ()) for kind in KINDS]
)
def test_a_result_or_a_sentence(worker, kind):
    if kind not in kinds_here():
        pytest.skip("its reader belongs to the other environment")
    first, seeds = bomb_count(kind), len(seeds_of(kind))
    numbers = [first, *range(first + seeds, first + seeds + _INPUTS)]
    told = [worker.ask(kind, number) for number in numbers]
    assert [each for each in told if each.outcome == "fault"] == []
    assert told[0].outcome == "good" or kind in ("dicom", "dicom-frames")  # pydicom's first are odd ones


def write(folder: Path, seed: Seed) -> Path:
    for name, content in seed.files.items():
        (folder / name).write_bytes(content)
    return folder / seed.name


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        pytest.param(bombs._jpeg_of_scans, "a JPEG of very many scans", id="JPEG of scans"),
        pytest.param(bombs._jpeg_dicom, "an image of 65500x65500 pixels", id="JPEG in DICOM larger than it says"),
        pytest.param(bombs._jpeg_2000_dicom, "an image of 60000x60000 pixels", id="JPEG 2000 in DICOM"),
        pytest.param(bombs._jpeg_ls_dicom, "an image of 60000x60000 pixels", id="JPEG-LS in DICOM"),
        pytest.param(bombs._deflated_dicom, "holds far more than it seems to", id="deflated DICOM"),
        pytest.param(bombs._extended_nifti, "damaged", id="NIfTI with an extension of 2 GB"),
        pytest.param(
            lambda: Seed.of(
                "rest.nii.gz", gzip.compress(bombs._nifti_header((16, 16), np.uint8)) + bombs._zeros_gzipped(96)
            ),
            "damaged",
            id="NIfTI that goes on and on",
        ),
    ],
)
def test_bombs_are_refused_before_they_go_off(tmp_path, make, problem):
    with pytest.raises(InputError, match=problem):
        read_scan(write(tmp_path, make()))


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(nifti(np.ones((4, 5, 6), np.uint8), nibabel.Nifti2Image), id="NIfTI-2, which has no db_name"),
        pytest.param(
            nifti(np.ones((4, 5, 6), np.uint8), srow_z=[0, 0, np.nan, 0], sform_code=1), id="NaN in the affine"
        ),
    ],
)
def test_label_maps_of_odd_volumes_are_written(tmp_path, content):
    out = tmp_path / "out"
    out.mkdir()
    take("nifti-3d", Seed.of("a.nii", content), Path(write(tmp_path, Seed.of("a.nii", content)).parent), out)
    assert nibabel.load(out / "a_seg.nii.gz").shape == (4, 5, 6)


def test_label_map_of_a_slice_whose_affine_is_nan(tmp_path):
    path = write(tmp_path, Seed.of("a.nii", nifti(np.ones((4, 5), np.uint8), srow_z=[0, 0, np.nan, 0], sform_code=1)))
    labels = label_map_as_stored(path, np.ones(read_scan(path).pixels.shape[:2], np.uint8))
    assert labels.shape == (4, 5)


@pytest.mark.parametrize("number", [10**400, 1e308, float("nan")], ids=["digits", "large", "nan"])
def test_numbers_of_edits_have_a_limit(number):
    with pytest.raises(InputError, match="edit 1: add with a wrong or lacking 'box'"):
        read_edits([{"action": "add", "box": [number, 0, 4, 4]}])


def test_a_manifest_of_digits_is_refused(tmp_path):
    (tmp_path / "manifest.json").write_text('{"schema": ' + "9" * 10_000 + "}")
    with pytest.raises(WeightsError, match="not valid JSON"):
        Release.open(tmp_path)


def test_a_broken_stream_in_an_archive_is_refused(tmp_path):
    """Its names and sizes are right, what is deflated is not."""
    content = bytearray(seeds_of("zip")[0].files["series0.zip"])
    length = 30 + struct.unpack_from("<H", content, 26)[0]
    content[length + 40 : length + 90] = bytes(range(200, 250))
    with pytest.raises(InputError, match="a ZIP that is damaged or encrypted"):
        take("zip", Seed.of("a.zip", b""), write(tmp_path, Seed.of("a.zip", bytes(content))).parent, tmp_path / "out")


def test_summary_names_every_fault():
    from tests.fuzz.__main__ import summary
    from tests.fuzz.pool import Told

    told = [Told("png", 1, "a.png", "refused", "a.png: 12x7 'x'; expected y"), Told("png", 2, "b", "fault", "took 9 s")]
    text = summary(told)
    assert "| png | 2 | 0 | 1 | 1 |" in text and "- 1 x # '...'; expected y" in text and "- png 2 (b): took 9 s" in text
    assert json.dumps([vars(each) for each in told])


def test_a_video_that_claims_too_much_is_refused(tmp_path):
    with pytest.raises(InputError, match="a video without frames"):
        read_stack(write(tmp_path, bombs._huge_gif()))


@pytest.mark.parametrize(
    "rle", [True, 7, [], {"size": [2, 3], "counts": [2, True, 3]}, {"size": [2, 3], "counts": "o" * 99}]
)
def test_what_is_no_mask_is_refused(rle):
    with pytest.raises(InputError, match=r"a\.json: "):
        decode_mask(rle, 3, 2, "a.json")


def test_a_step_of_a_thousand_kilometres_is_none(tmp_path):
    pytest.importorskip("nrrd")
    content = seeds_of("nrrd")[0].files["raw.nrrd"].replace(b"(0,0,1)", b"(0,1e308,1)")
    stack = read_stack(write(tmp_path, Seed.of("a.nrrd", content)))
    assert stack.spacing_mm is None and "volumes and lengths are unknown" in stack.notes[0]


@pytest.mark.parametrize("edit", [{"action": "a" * 5000}, {"action": "delete", "region": 1, "b" * 5000: 1}])
def test_what_is_quoted_is_short(edit):
    with pytest.raises(InputError) as refused:
        read_edits([edit])
    assert len(str(refused.value)) < 200
