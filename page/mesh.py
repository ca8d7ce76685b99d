"""The surfaces of a volume's objects, as a glTF model that browsers show: marching cubes, smoothed."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pipeline.overlay import class_colour
from pipeline.stack import Stack
from pipeline.tracks import Tracking

#: Taubin's two steps, "A signal processing approach to fair surface design" (1995): smooth without shrinking.
_SHRINK, _GROW, _ROUNDS = 0.5, -0.53, 12
#: Voxels along a side beyond which every second, third ... one is taken.
_MOST_VOXELS = 256


def write_surface(path: Path, stack: Stack, found: Tracking) -> bool:
    """Write a .glb of all objects; whether there is one, which videos and volumes without a finding have not.

    Objects have the colours of their classes and lie in millimetres, the head up and the patient's front to the viewer.
    """
    if stack.kind != "volume" or stack.axis is None or not found.tracks:
        return False
    # imported here: an image's visitor needs neither
    import trimesh
    from zmesh import Mesher

    spacing = np.array(stack.spacing_mm or (1.0, 1.0, 1.0))
    scene = trimesh.Scene()
    for number, track in enumerate(found.tracks, start=1):
        voxels, corner = _voxels(found, number - 1)
        steps = [max(1, -(-length // _MOST_VOXELS)) for length in voxels.shape]
        voxels = voxels[tuple(slice(None, None, step) for step in steps)]
        mesher = Mesher(tuple((spacing * steps).tolist()))
        mesher.mesh(np.ascontiguousarray(voxels), close=False)
        mesh = mesher.get(1, normals=False, reduction_factor=0)
        vertices = _smooth(mesh.vertices.astype(np.float64), mesh.faces.astype(np.int64)) + corner * spacing
        vertices, faces = _seen_from_the_front(vertices, mesh.faces, stack.axis)
        material = trimesh.visual.material.PBRMaterial(
            baseColorFactor=[*_linear(class_colour(track.class_id)), 255], metallicFactor=0.0, roughnessFactor=0.7
        )
        visual = trimesh.visual.TextureVisuals(material=material)
        name = f"{number} {track.label}"
        scene.add_geometry(trimesh.Trimesh(vertices, faces, visual=visual, process=False), name, name)
    scene.export(path, file_type="glb")
    return True


def _linear(colour: tuple[int, int, int]) -> list[int]:
    """A screen's colour as glTF counts it: by light."""
    return [round(255 * (value / 255) ** 2.2) for value in colour]


def _voxels(found: Tracking, track: int) -> tuple[np.ndarray, np.ndarray]:
    """uint8 (n, h, w) of one object with a voxel of room around it, and where its corner lies: slice, row, column."""
    first, last = found.tracks[track].span
    masks = np.stack([found.mask(track, index) for index in range(first, last + 1)])
    rows, columns = np.flatnonzero(masks.any((0, 2))), np.flatnonzero(masks.any((0, 1)))
    inside = masks[:, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return np.pad(inside, 1).astype(np.uint8), np.array([first, rows[0], columns[0]]) - 1.0


def _smooth(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """float64 (V, 3): each vertex drawn to the mean of its neighbours and pushed back, several times."""
    ends = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    ends = np.unique(np.sort(ends, axis=1), axis=0)
    start, stop = np.concatenate([ends, ends[:, ::-1]]).T
    neighbours = np.bincount(start, minlength=len(vertices)).clip(1)[:, None]
    for share in (_SHRINK, _GROW) * _ROUNDS:
        sums = [np.bincount(start, vertices[stop, side], len(vertices)) for side in range(3)]
        vertices = vertices + share * (np.stack(sums, axis=1) / neighbours - vertices)
    return vertices


def _seen_from_the_front(vertices: np.ndarray, faces: np.ndarray, axis: int) -> tuple[np.ndarray, np.ndarray]:
    """(slice, row, column) in mm -> glTF's x right, y up, z to the viewer; faces keep their outer side.

    A stack's slices go right, front or up, its rows down (of axial slices back), its columns right (of sagittal ones to
    the front); see `Stack.of_volume`.
    """
    slices, rows, columns = vertices.T
    right, front, up = {0: (slices, columns, -rows), 1: (columns, slices, -rows), 2: (columns, -rows, slices)}[axis]
    # coronal slices make a left-handed system of the three
    return np.stack([-right, up, front], axis=1), faces[:, ::-1] if axis == 1 else faces
