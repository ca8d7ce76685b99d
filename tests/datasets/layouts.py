"""Writes miniature data sets in the official layouts.

Unless a test says otherwise an image is `picture()` and its mask holds one rectangle, `BOX`.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path

import nibabel
import numpy as np
from PIL import Image

WIDTH, HEIGHT = 24, 20
BOX = (4, 6, 14, 12)

#: Affines of a 1 mm grid whose axes run to the patient's right, front, head; to left, back, head; to head, back, left.
RAS = np.diag([1.0, 1, 1, 1])
LPS = np.diag([-1.0, -1, 1, 1])
SPL = np.array([[0, 0, -1, 0], [0, -1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 1.0]])


def picture(seed: int = 0, width: int = WIDTH, height: int = HEIGHT) -> np.ndarray:
    """uint8 RGB (H, W, 3) of noise."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def rectangles(*boxes: tuple[int, int, int, int], width: int = WIDTH, height: int = HEIGHT) -> np.ndarray:
    """bool (H, W), true within the xyxy boxes."""
    mask = np.zeros((height, width), bool)
    for left, top, right, bottom in boxes:
        mask[top:bottom, left:right] = True
    return mask


def save_image(path: Path, pixels: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.astype(np.uint8) * 255 if pixels.dtype == bool else pixels).save(path)
    return path


def save_volume(path: Path, values: np.ndarray, affine: np.ndarray = RAS) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.Nifti1Image(values, affine).to_filename(path)
    return path


def save_table(path: Path, header: Sequence[str], *rows: Sequence[object]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return path


def save_pair(folder: Path, name: str, mask: np.ndarray | None = None, seed: int = 0) -> None:
    """`images/NAME.png` and `masks/NAME.png`."""
    save_image(folder / "images" / f"{name}.png", picture(seed))
    save_image(folder / "masks" / f"{name}.png", rectangles(BOX) if mask is None else mask)


def lgg(folder: Path) -> Path:
    """Two patients, the first with two examinations; splits by patient."""
    for seed, name in enumerate(
        [
            "TCGA_CS_4941_19960909/001",
            "TCGA_CS_4941_19960909/002",
            "TCGA_CS_4941_19970101/001",
            "TCGA_DU_5849_19950405/010",
        ]
    ):
        save_pair(folder, name, seed=seed)
    save_table(folder / "splits.csv", ["patient", "split"], ["TCGA_CS_4941", "train"], ["TCGA_DU_5849", "test"])
    return folder


def lgg_original(folder: Path) -> Path:
    """The layout of the original download: TIFF, slices numbered without leading zeros, no splits."""
    series = "TCGA_CS_4941_19960909"
    for number in (1, 2, 10):
        save_image(folder / series / f"{series}_{number}.tif", picture(number))
        save_image(folder / series / f"{series}_{number}_mask.tif", rectangles(BOX))
    return folder


def lungs(folder: Path) -> Path:
    """Two lungs and a smaller third component."""
    both = rectangles((1, 2, 9, 18), (13, 2, 20, 17), (10, 0, 12, 19))
    save_pair(folder, "CHNCXR_0001_0", both)
    save_pair(folder, "MCUCXR_0002_1", seed=1)
    save_table(folder / "splits.csv", ["patient", "split"], ["CHNCXR_0001", "val"], ["MCUCXR_0002", "train"])
    return folder


def hc18(folder: Path) -> Path:
    for seed, name in enumerate(["010_HC", "010_2HC", "011_HC"]):
        save_pair(folder, name, seed=seed)
    save_table(folder / "splits.csv", ["exam", "split"], ["010", "train"], ["011", "test"])
    return folder


def kvasir(folder: Path) -> Path:
    """Two near duplicates; the first mask has a speck of 9 pixels."""
    save_pair(folder, "cju0aaa", rectangles(BOX, (20, 1, 23, 4)))
    save_pair(folder, "cju0bbb", seed=1)
    save_pair(folder, "cju0ccc", seed=2)
    header = ["image", "repo_split", "neardup_group"]
    save_table(folder / "meta.csv", header, ["cju0aaa", "", 7], ["cju0bbb", "", 7], ["cju0ccc", "", 8])
    save_table(folder / "splits.csv", ["neardup_group", "split"], [7, "val"], [8, "train"])
    return folder


def busi(folder: Path) -> Path:
    save_pair(folder, "benign_001")
    save_pair(folder, "malignant_004", seed=1)
    save_pair(folder, "normal_002", rectangles(), seed=2)
    rows = ["benign_001", "train"], ["malignant_004", "val"], ["normal_002", "test"]
    save_table(folder / "splits.csv", ["image", "split"], *rows)
    return folder


def sunnybrook(folder: Path) -> Path:
    """One patient with a single frame and a cine study of two slices; frame 1 is unlabelled."""
    save_pair(folder / "ed_es", "SC-HF-I-01-IM-0001-0032")
    masks = np.where(rectangles(BOX), 1, 2).astype(np.uint8)
    save_study(
        folder / "cine" / "SC-HF-I-01.npz",
        frames=np.stack([picture(seed)[..., 0] for seed in range(3)]),
        masks=np.stack([masks] * 3),
        has_lv=np.array([True, False, True]),
        slice_index=np.array([0, 0, 1]),
    )
    save_table(folder / "splits.csv", ["patient", "split"], ["SC-HF-I-01", "test"])
    return folder


def save_study(path: Path, **arrays: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, **arrays)
    return path


def nih(folder: Path, header: str = "Image Index,Finding Label,Bbox [x,y,w,h],,,") -> Path:
    """Official folders; of three listed images two are there, the second in half the size; one more has no box."""
    folder.mkdir(parents=True, exist_ok=True)
    commas = "," * (header.count(",") - 5)
    rows = [
        "00013118_008.png,Atelectasis,225.5,547,86.75,79.25",
        "00014716_007.png,Effusion,686,131.5,185,313",
        "00013118_008.png,Pneumothorax,1000,1000,100,50",
        "00029817_009.png,Mass,221,317,155,216",
    ]
    (folder / "BBox_List_2017.csv").write_text("\n".join([header, *(row + commas for row in rows)]) + "\n")
    save_image(folder / "images_001" / "images" / "00013118_008.png", picture(0, 1024, 1024)[..., 0])
    save_image(folder / "images_002" / "images" / "00014716_007.png", picture(1, 512, 512)[..., 0])
    save_image(folder / "images_002" / "images" / "00000001_000.png", picture(2, 512, 512)[..., 0])
    return folder


def two_greys(bright: np.ndarray) -> np.ndarray:
    """float32 intensities that a window makes 255 where `bright`, else 0."""
    return np.where(bright, 900.0, 300.0).astype(np.float32)


def blocks(seed: int, shape: tuple[int, ...]) -> np.ndarray:
    """bool noise."""
    return np.random.default_rng(seed).random(shape) < 0.5


HIPPOCAMPUS_SHAPE = (12, 3, 10)


def hippocampus_labels() -> np.ndarray:
    """In coronal slice 1: anterior beside posterior, 4x3 and 4x3 voxels in x and z."""
    labels = np.zeros(HIPPOCAMPUS_SHAPE, np.uint8)
    labels[2:6, 1, 4:7] = 1
    labels[6:10, 1, 4:7] = 2
    return labels


def hippocampus(folder: Path) -> Path:
    """Task04 with two volumes, the second listed and absent."""
    save_volume(folder / "imagesTr" / "hippocampus_001.nii.gz", two_greys(blocks(0, HIPPOCAMPUS_SHAPE)))
    save_volume(folder / "labelsTr" / "hippocampus_001.nii.gz", hippocampus_labels())
    labels = {"0": "background", "1": "Anterior", "2": "Posterior"}
    decathlon(folder, "Hippocampus", ["MRI"], labels, ["hippocampus_001", "hippocampus_004"])
    save_table(folder / "splits.csv", ["volume", "split"], ["hippocampus_001", "val"], ["hippocampus_004", "train"])
    return folder


def decathlon(folder: Path, name: str, modalities: list[str], labels: dict[str, str], volumes: list[str]) -> Path:
    """The `dataset.json` of a task."""
    folder.mkdir(parents=True, exist_ok=True)
    description = {
        "name": name,
        "modality": {str(number): modality for number, modality in enumerate(modalities)},
        "labels": labels,
        "training": [
            {"image": f"./imagesTr/{volume}.nii.gz", "label": f"./labelsTr/{volume}.nii.gz"} for volume in volumes
        ],
    }
    path = folder / "dataset.json"
    path.write_text(json.dumps(description))
    return path


BRATS_SHAPE = (WIDTH, HEIGHT, 3)
#: (folder of the case, sequences in the order T1, FLAIR, T1 with contrast, T2, segmentation)
BRATS_2020 = "BraTS20_Training_001", ("_t1", "_flair", "_t1ce", "_t2", "_seg")
BRATS_2021 = "BraTS2021_00000", BRATS_2020[1]
BRATS_2023 = "BraTS-GLI-00005-001", ("-t1n", "-t2f", "-t1c", "-t2w", "-seg")


def brats_labels(enhancing: int = 4) -> np.ndarray:
    """(left, back, head): in slice 1 three labels side by side fill BOX."""
    labels = np.zeros(BRATS_SHAPE, np.uint8)
    left, top, right, bottom = BOX
    labels[left:right, top:bottom, 1] = 1
    labels[left + 3 : right, top:bottom, 1] = 2
    labels[left + 6 : right, top:bottom, 1] = enhancing
    return labels


def brats_case(
    folder: Path,
    case: tuple[str, tuple[str, ...]] = BRATS_2020,
    suffix: str = ".nii.gz",
    turned: str = "LPS",
    labels: np.ndarray | None = None,
) -> Path:
    """A case whose sequence number i is `two_greys(blocks(i, BRATS_SHAPE))`, axes to left, back, head."""
    name, endings = case
    if labels is None:
        labels = brats_labels(3 if case is BRATS_2023 else 4)
    for number, ending in enumerate(endings):
        values = labels if number == 4 else two_greys(blocks(number, BRATS_SHAPE))
        turns = {"LPS": (values, LPS), "RAS": (values[::-1, ::-1], RAS), "SPL": (values.transpose(2, 1, 0), SPL)}
        save_volume(folder / name / f"{name}{ending}{suffix}", *turns[turned])
    return folder


COCO_IMAGE = {"id": 3, "file_name": "a.png", "width": WIDTH, "height": HEIGHT}


def coco(path: Path, regions: Sequence[dict] = (), images: Sequence[dict] = (COCO_IMAGE,), **lists: object) -> Path:
    """An annotation file of the categories cyst 5 and node 2; each region is a cyst of image 3 unless it says so."""
    content = {
        "images": list(images),
        "categories": [{"id": 5, "name": "cyst"}, {"id": 2, "name": "node"}],
        "annotations": [
            {"id": number, "image_id": 3, "category_id": 5, **region} for number, region in enumerate(regions, start=1)
        ],
        **lists,  # take the place of these
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path
