"""Surfaces: their volume, their place in the patient, their outer side."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import trimesh
from pycocotools import mask as coco_mask

from page.mesh import write_surface
from pipeline.stack import Stack
from pipeline.tracks import Track, Tracking

SHAPE, SPACING, CENTRE = (24, 100, 80), (5.0, 1.0, 1.5), np.array([12, 45, 30])
#: Where the centre lies, in glTF's x to the patient's left, y up, z to the front; see `Stack.of_volume`.
SEEN = {
    0: (-12 * 5.0, -45 * 1.0, 30 * 1.5),
    1: (-30 * 1.5, -45 * 1.0, 12 * 5.0),
    2: (-30 * 1.5, 12 * 5.0, -45 * 1.0),
}


def ellipsoid() -> np.ndarray:
    places = np.stack(np.mgrid[tuple(map(slice, SHAPE))], axis=-1)
    return (((places - CENTRE) / (8, 20, 15)) ** 2).sum(-1) < 1


def tracked(voxels: np.ndarray, kind: str, axis: int | None) -> tuple[Stack, Tracking]:
    rles = {
        index: coco_mask.encode(np.asfortranarray(inside.view(np.uint8)))
        for index, inside in enumerate(voxels)
        if inside.any()
    }
    tracks = (Track("brain_tumor", 1, 0.9, (12,), rles),) if rles else ()
    stack = Stack(Path("scan"), kind, voxels.astype(np.uint8), SPACING, axis=axis)
    return stack, Tracking(voxels.shape, tracks, "int8", {})


@pytest.mark.parametrize("axis", [0, 1, 2], ids=["sagittal", "coronal", "axial"])
def test_a_surface_has_the_volume_and_the_place_of_its_object(axis, tmp_path):
    voxels = ellipsoid()
    path = tmp_path / "surface.glb"
    assert write_surface(path, *tracked(voxels, "volume", axis))
    mesh = trimesh.load(path, force="mesh")
    assert mesh.is_watertight
    assert mesh.volume == pytest.approx(
        voxels.sum() * np.prod(SPACING), rel=0.01
    )  # positive: the outer side is outside
    assert mesh.center_mass == pytest.approx(SEEN[axis], abs=0.8)


@pytest.mark.parametrize(
    ("voxels", "kind", "axis"),
    [(ellipsoid(), "video", None), (np.zeros(SHAPE, bool), "volume", 2)],
    ids=["video", "nothing found"],
)
def test_there_is_none_of_a_video_or_of_nothing(voxels, kind, axis, tmp_path):
    assert not write_surface(tmp_path / "surface.glb", *tracked(voxels, kind, axis))
    assert list(tmp_path.iterdir()) == []
