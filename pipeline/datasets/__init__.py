"""Readers of public data sets in their official layouts, one module a source, and `prepare`, which makes them uniform.

Each module has `matches(folder) -> bool` and `read(folder) -> Source`; `SOURCES` lists them.
"""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

from pipeline.datasets import brats, busi, coco, hc18, kvasir, lgg, lungs, msd, nih_chestxray14, sunnybrook
from pipeline.datasets.sample import Region, Sample, Source
from pipeline.errors import InputError

__all__ = ["CLASSES", "SOURCES", "Region", "Sample", "Source", "read_source"]

#: The classes of the shipped release; a class's id is its place in this tuple + 1.
CLASSES = ("brain_tumor", "hippocampus", "lung", "left_ventricle", "polyp", "fetal_head", "breast_lesion")

#: Readers by name, asked in this order which one a folder belongs to.
SOURCES: dict[str, ModuleType] = {
    "lgg": lgg,
    "brats": brats,
    "msd": msd,
    "lungs": lungs,
    "sunnybrook": sunnybrook,
    "kvasir": kvasir,
    "hc18": hc18,
    "busi": busi,
    "nih_chestxray14": nih_chestxray14,
    "coco": coco,
}


def read_source(path: str | Path) -> Source:
    """List a data set's samples; which reader fits is seen from the folder's layout (or a COCO .json file)."""
    path = Path(path)
    if not path.exists():
        raise InputError(path, "no such file or folder", "the folder of a data set")
    path = path.absolute()  # so that the folder of `.` has a name
    for module in SOURCES.values():
        if module.matches(path):
            return module.read(path)
    raise InputError(
        path, "not the layout of a known data set", f"one of {', '.join(SOURCES)} as officially downloaded"
    )
