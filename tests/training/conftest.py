"""A release of the real architectures with random weights, exported once for all tests of export and quantization."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hub import Release
from pipeline.geometry import Resize
from pipeline.phantoms import write_phantoms
from pipeline.scan import read_scan


@pytest.fixture(scope="session")
def phantoms(tmp_path_factory) -> list[np.ndarray]:
    """Images that look a little like scans, uint8 (H, W, 3) of several sizes."""
    drawn = write_phantoms(tmp_path_factory.mktemp("phantoms"))
    return [read_scan(path).pixels for path, _ in drawn]


@pytest.fixture(scope="session")
def random_weights(phantoms, tmp_path_factory) -> dict[str, Path]:
    """{'detector': ..., 'segmenter': ...}: .safetensors of random weights whose outputs depend on the image."""
    import torch

    from pipeline.training.architectures import build_detector, build_segmenter
    from pipeline.training.progress import save_weights

    torch.manual_seed(0)
    detector, segmenter = build_detector(7), build_segmenter()
    # Normalised by what it sees, as a trained network is; else random layers let nothing through.
    for module in detector.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 1.0
    images = [Resize.plan(p.shape[1], p.shape[0], 320, "letterbox").image(p) for p in phantoms]
    with torch.no_grad():
        detector.train()(torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2) / 255)
        for name, parameter in detector.named_parameters():
            if name.endswith("cls_pred.bias"):
                parameter.fill_(-3.5)  # scores on both sides of the graph's floor
        for name, parameter in segmenter.named_parameters():
            if parameter.ndim == 1 or "pos_embed" in name:  # zero or one from the start, so not yet tested by it
                parameter.add_(0.1 * torch.randn_like(parameter))
    folder, paths = tmp_path_factory.mktemp("weights"), {}
    for name, module in (("detector", detector), ("segmenter", segmenter)):
        paths[name] = folder / f"{name}.safetensors"
        save_weights(module.state_dict(), paths[name])
    return paths


@pytest.fixture(scope="session")
def exported(random_weights, tmp_path_factory) -> Release:
    """The fp32 release of `random_weights`. Not to be changed: copy it."""
    from pipeline.training.config import RELEASE_CONFIG
    from pipeline.training.export import export_release

    trained_on = {"sources": {"none": {"images": 0}}}
    folder = tmp_path_factory.mktemp("release")
    return export_release(random_weights, folder, RELEASE_CONFIG, version="0.0.1", trained_on=trained_on)
