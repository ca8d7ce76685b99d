"""Half precision where there is no graphics card: the same graphs on the CPU, on which onnxruntime computes in float32
and rounds to half between steps. The masks say what half precision costs; the time says nothing."""

from __future__ import annotations

import shutil
from pathlib import Path

from hub import Release
from pipeline.errors import InputError, missing_package


def half_release(release: Release, folder: Path) -> Release:
    """Write a release to `folder`, which must not exist: its "fp32" graphs are those of `release` in half precision.

    Raises InputError outside the build environment.
    """
    try:
        from pipeline.training.export import list_files
        from pipeline.training.quantize import quantize_release
    except ModuleNotFoundError as error:
        raise InputError("fp16", missing_package("its graphs", error.name), "the build environment") from None
    shutil.copytree(release.folder, folder)
    quantize_release(folder, None, precision="fp16")
    shutil.rmtree(folder / "onnx" / "fp32")
    (folder / "onnx" / "fp16").rename(folder / "onnx" / "fp32")
    return list_files(folder, version=release.version, trained_on=release.manifest.get("trained_on", {}))
