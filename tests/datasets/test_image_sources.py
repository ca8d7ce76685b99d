"""Sources of two-dimensional images: which samples they give, and exactly what is in one."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("scipy", reason="the readers belong to the build environment")

from pipeline.datasets import read_source
from pipeline.datasets.nih_chestxray14 import FINDINGS
from tests.datasets import layouts
from tests.datasets.layouts import BOX, picture, rectangles

pytestmark = pytest.mark.training

LGG_1, LGG_2, LGG_3 = "TCGA_CS_4941_19960909", "TCGA_CS_4941_19970101", "TCGA_DU_5849_19950405"


@pytest.mark.parametrize(
    ("write", "modality", "classes", "samples"),
    [
        pytest.param(
            layouts.lgg,
            "brain MRI",
            ("brain_tumor",),
            [
                (f"{LGG_1}_001", "TCGA_CS_4941", "train", LGG_1, 1),
                (f"{LGG_1}_002", "TCGA_CS_4941", "train", LGG_1, 2),
                (f"{LGG_2}_001", "TCGA_CS_4941", "train", LGG_2, 1),
                (f"{LGG_3}_010", "TCGA_DU_5849", "test", LGG_3, 10),
            ],
            id="lgg",
        ),
        pytest.param(
            layouts.lgg_original,
            "brain MRI",
            ("brain_tumor",),
            [(f"{LGG_1}_{number:03d}", "TCGA_CS_4941", None, LGG_1, number) for number in (1, 2, 10)],
            id="lgg-original-tif",
        ),
        pytest.param(
            layouts.lungs,
            "chest X-ray",
            ("lung",),
            [
                ("CHNCXR_0001_0", "CHNCXR_0001", "val", None, None),
                ("MCUCXR_0002_1", "MCUCXR_0002", "train", None, None),
            ],
            id="lungs",
        ),
        pytest.param(
            layouts.hc18,
            "fetal ultrasound",
            ("fetal_head",),
            [
                ("010_2HC", "010", "train", None, None),
                ("010_HC", "010", "train", None, None),
                ("011_HC", "011", "test", None, None),
            ],
            id="hc18",
        ),
        pytest.param(
            layouts.kvasir,
            "colonoscopy",
            ("polyp",),
            [
                ("cju0aaa", "7", "val", None, None),
                ("cju0bbb", "7", "val", None, None),
                ("cju0ccc", "8", "train", None, None),
            ],
            id="kvasir",
        ),
        pytest.param(
            layouts.busi,
            "breast ultrasound",
            ("breast_lesion",),
            [
                ("benign_001", "benign_001", "train", None, None),
                ("malignant_004", "malignant_004", "val", None, None),
                ("normal_002", "normal_002", "test", None, None),
            ],
            id="busi",
        ),
        pytest.param(
            layouts.sunnybrook,
            "cardiac MRI",
            ("left_ventricle",),
            [
                ("SC-HF-I-01-IM-0001-0032", "SC-HF-I-01", "test", None, None),
                ("SC-HF-I-01_slice00_frame000", "SC-HF-I-01", "test", "SC-HF-I-01_slice00", 0),
                ("SC-HF-I-01_slice01_frame002", "SC-HF-I-01", "test", "SC-HF-I-01_slice01", 2),
            ],
            id="sunnybrook-without-unlabelled-frames",
        ),
        pytest.param(
            layouts.nih,
            "chest X-ray",
            FINDINGS,
            [("00013118_008", "00013118", None, None, None), ("00014716_007", "00014716", None, None, None)],
            id="nih-only-listed-images",
        ),
    ],
)
def test_samples(tmp_path, write, modality, classes, samples):
    source = read_source(write(tmp_path / "some_set"))
    assert (source.name, source.modality, source.classes) == ("some_set", modality, classes)
    assert [(s.name, s.patient, s.split, s.series, s.slice_index) for s in source.samples] == samples


GREY_0 = np.repeat(picture(0)[..., :1], 3, axis=2)


@pytest.mark.parametrize(
    ("write", "number", "pixels", "label", "boxes"),
    [
        pytest.param(layouts.lgg, 1, picture(1), "brain_tumor", [BOX], id="lgg-rgb-in-file-order"),
        pytest.param(layouts.lgg_original, 2, picture(10), "brain_tumor", [BOX], id="lgg-original-tif"),
        pytest.param(
            layouts.lungs, 0, picture(0), "lung", [(1, 2, 9, 18), (13, 2, 20, 17)], id="lungs-two-largest-parts"
        ),
        pytest.param(layouts.hc18, 1, picture(0), "fetal_head", [BOX], id="hc18"),
        pytest.param(layouts.kvasir, 0, picture(0), "polyp", [BOX], id="kvasir-without-speck"),
        pytest.param(layouts.busi, 1, picture(1), "breast_lesion", [BOX], id="busi"),
        pytest.param(layouts.busi, 2, picture(2), "breast_lesion", [], id="busi-normal-is-empty"),
        pytest.param(layouts.sunnybrook, 0, picture(0), "left_ventricle", [BOX], id="sunnybrook-single-frame"),
        pytest.param(layouts.sunnybrook, 1, GREY_0, "left_ventricle", [BOX], id="sunnybrook-cine-without-myocardium"),
    ],
)
def test_content(tmp_path, write, number, pixels, label, boxes):
    image, regions = read_source(write(tmp_path)).samples[number].load()
    assert image.dtype == np.uint8
    np.testing.assert_array_equal(image, pixels)
    assert [(region.label, tuple(region.box.tolist())) for region in regions] == [(label, box) for box in boxes]
    for region, box in zip(regions, boxes, strict=True):
        assert region.box.dtype == np.float32
        np.testing.assert_array_equal(region.mask, rectangles(box))


@pytest.mark.parametrize(
    "header",
    [
        pytest.param("Image Index,Finding Label,Bbox [x,y,w,h],,,", id="official"),
        pytest.param("Image Index,Finding Label,Bbox [x,y,w,h]", id="without-empty-columns"),
        pytest.param('Image Index,Finding Label,"Bbox [x,y,w,h]",,,', id="quoted"),
    ],
)
def test_nih_boxes(tmp_path, header):
    source = read_source(layouts.nih(tmp_path, header))
    assert source.missing == ("00029817_009",)

    pixels, regions = source.samples[0].load()
    np.testing.assert_array_equal(pixels, np.repeat(picture(0, 1024, 1024)[..., :1], 3, axis=2))
    assert [(r.label, r.box.tolist(), r.mask) for r in regions] == [
        ("Atelectasis", [225.5, 547, 312.25, 626.25], None),
        ("Pneumothorax", [1000, 1000, 1024, 1024], None),  # clipped to the image
    ]

    pixels, regions = source.samples[1].load()
    assert pixels.shape == (512, 512, 3)
    assert [(r.label, r.box.tolist(), r.mask) for r in regions] == [("Effusion", [343, 65.75, 435.5, 222.25], None)]


def test_nih_prefers_png_to_a_smaller_jpeg(tmp_path):
    layouts.nih(tmp_path)
    layouts.save_image(tmp_path / "images_512" / "00013118_008.jpg", picture(0, 512, 512))
    layouts.save_image(tmp_path / "images_512" / "00029817_009.jpg", picture(0, 512, 512))
    source = read_source(tmp_path)
    assert source.missing == ()
    assert [sample.load()[0].shape[0] for sample in source.samples] == [1024, 512, 512]


def test_macos_leftovers_are_no_images(tmp_path):
    layouts.kvasir(tmp_path)
    (tmp_path / "images" / "._cju0aaa.png").write_bytes(b"\0\5\x16\7")
    assert len(read_source(tmp_path).samples) == 3


def test_sixteen_bit_image_is_read_as_inference_reads_it(tmp_path):
    layouts.kvasir(tmp_path)
    deep = np.linspace(500, 3000, layouts.WIDTH * layouts.HEIGHT).astype(np.uint16)
    layouts.save_image(tmp_path / "images" / "cju0aaa.png", deep.reshape(layouts.HEIGHT, layouts.WIDTH))
    pixels, _ = read_source(tmp_path).samples[0].load()
    assert (pixels[0, 0].tolist(), pixels[-1, -1].tolist()) == ([0, 0, 0], [255, 255, 255])


def test_samples_can_go_to_another_process(tmp_path):
    import pickle

    sample = read_source(layouts.kvasir(tmp_path)).samples[0]
    pixels, _ = pickle.loads(pickle.dumps(sample)).load()  # noqa: S301 - made one line before
    np.testing.assert_array_equal(pixels, picture(0))
