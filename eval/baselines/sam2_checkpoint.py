"""SAM2 checkpoints with boxes: SAM2.1 Hiera-T, MedSAM2, Medical SAM 2; in torch, float32.

The package sam2's own predictor, at the size that each was made for. Which Hiera and which version of SAM2 a checkpoint
is of is seen from its tensors.
"""

from __future__ import annotations

import importlib.resources
import warnings
from pathlib import Path

import numpy as np

from pipeline.errors import InputError, missing_package

#: Hiera by its number of blocks, as sam2's configurations are called.
_TRUNKS = {12: "t", 16: "s", 24: "b+", 48: "l"}
#: What a prediction on an image needs; the rest is SAM2's memory of videos.
_NEEDED = ("image_encoder.", "sam_prompt_encoder.", "sam_mask_decoder.", "no_mem_embed")
_BLOCK = "image_encoder.trunk.blocks."


def configuration_of(names: list[str]) -> str:
    """sam2's configuration for a state dict of these names, such as 'sam2.1/sam2.1_hiera_t'; '' where none fits."""
    blocks = {int(name.removeprefix(_BLOCK).split(".")[0]) for name in names if name.startswith(_BLOCK)}
    trunk = _TRUNKS.get(len(blocks))
    version = "sam2.1" if "no_obj_embed_spatial" in names else "sam2"
    return f"{version}/{version}_hiera_{trunk}" if trunk else ""


class Sam2Checkpoint:
    """Where `checkpoint` is None: SAM2.1 Hiera-T with random weights, good for size and speed and for nothing else."""

    def __init__(self, name: str, checkpoint: Path | None, size: int, threads: int | None = None):
        try:
            from eval.baselines import torch_network

            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                from sam2.sam2_image_predictor import SAM2ImagePredictor
        except ModuleNotFoundError as error:
            raise InputError(name, missing_package("this row", error.name), "the build environment") from None
        torch_network.set_threads(threads)
        torch_network.seed_weights()
        state = torch_network.read_weights(checkpoint) if checkpoint else None
        network = _build("sam2.1/sam2.1_hiera_t" if state is None else configuration_of(list(state)), size, checkpoint)
        if state is not None:
            faults = network.load_state_dict(state, strict=False)
            lacking = [key for key in faults.missing_keys if key.startswith(_NEEDED)]
            if lacking:
                raise InputError(checkpoint, f"lacks {len(lacking)} tensors ({lacking[0]}, ...)", "a SAM2 checkpoint")
        self.bytes = torch_network.bytes_of(network)
        self._predictor = SAM2ImagePredictor(network)
        # sam2 writes down the feature maps' sides for 1024 pixels
        self._predictor._bb_feat_sizes = [(size // stride, size // stride) for stride in (4, 8, 16)]

    def outline(self, pixels: np.ndarray, boxes: np.ndarray) -> np.ndarray:
        """Union of the masks of boxes (N, 4), bool (H, W)."""
        self._predictor.set_image(pixels)
        masks, _, _ = self._predictor.predict(box=boxes, multimask_output=False)
        return (masks.reshape(-1, *pixels.shape[:2]) > 0).any(0)


def _build(configuration: str, size: int, checkpoint: Path | None):
    from hydra.utils import instantiate
    from omegaconf import OmegaConf

    path = importlib.resources.files("sam2") / "configs" / f"{configuration}.yaml"
    if not configuration or not path.is_file():
        raise InputError(checkpoint, "not a SAM2 checkpoint", "tensors of a SAM2 with a Hiera of size T, S, B+ or L")
    config = OmegaConf.create(path.read_text()).model
    config.image_size = size
    for attention in ("self_attention", "cross_attention"):
        config.memory_attention.layer[attention].feat_sizes = [size // 16, size // 16]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return instantiate(config, _recursive_=True).eval()
