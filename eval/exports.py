"""Networks as plain fp32 ONNX, to time the release against: what torch's exporter makes of the packages' own modules.

- `reference`: the release's own networks before any graph work. Nothing of `pipeline.training.graphs` is in it: float
  input that was normalised outside, RepVGG branches and Hiera's attention as their packages write them, no non-maximum
  suppression, no onnxsim. onnxruntime optimizes it when it opens it, as it does with every graph.
- `lite_medsam`: LiteMedSAM's encoder at 256 pixels and its decoder, with its weights.
- `mobile_sam`: MobileSAM's architecture at 1024 pixels, random weights: only its time means anything.

They need the build environment once; then the files lie in a folder and onnxruntime is enough.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

from hub.files import replace_path
from hub.release import Release
from pipeline.errors import InputError, missing_package

#: The graphs of each, by file name.
NETWORKS = {
    "reference": ("detector", "encoder", "decoder"),
    "lite_medsam": ("encoder", "decoder"),
    "mobile_sam": ("encoder", "decoder"),
}
_OPSET = 17


def exported(network: str, release: Release, folder: Path) -> dict[str, Path]:
    """{graph: file} of one of `NETWORKS`, exported into `folder` where it isn't there yet.

    Raises InputError where it has to be exported and a package for that is lacking.
    """
    own = folder / (f"{network}-{release.files_sha256[:12]}" if network == "reference" else network)
    paths = {graph: own / f"{graph}.onnx" for graph in NETWORKS[network]}
    if all(path.is_file() for path in paths.values()):
        return paths
    try:
        _EXPORTS[network](release, paths)
    except ModuleNotFoundError as error:
        problem = missing_package("exporting it", error.name)
        raise InputError(network, problem, f"its graphs in {own}, or the build environment") from None
    return paths


def _reference(release: Release, paths: dict[str, Path]) -> None:
    import torch

    from pipeline.training.architectures import build_detector, build_segmenter
    from pipeline.training.fused_detector import load_fused, ordinary_weights
    from pipeline.training.released_segmenter import start_segmenter
    from pipeline.training.segmenter_parts import Embedding, decode

    size, classes = release.config["detector"]["input_size"], len(release.config["classes"])
    image = torch.rand(1, 3, size, size)
    detector = build_detector(classes).eval()
    fused = load_fused(release.file("onnx/fp32/detector.onnx"), classes)
    detector.load_state_dict(ordinary_weights(fused, classes, [image]))
    segmenter = build_segmenter(release.config["segmenter"]["input_size"]).eval()
    release.file("onnx/fp32/mask_decoder.onnx")  # checked, it is read beside the encoder
    start_segmenter(segmenter, release.file("onnx/fp32/image_encoder.onnx"))

    def boxes(image):
        found = detector(image)
        return found if torch.is_tensor(found[0]) else found[0]

    def embed(image):
        levels = segmenter.forward_image(image)["backbone_fpn"]
        return levels[2] + segmenter.no_mem_embed.view(1, -1, 1, 1), levels[0], levels[1]

    def outline(embedding, high_res_0, high_res_1, box):
        features = Embedding(embedding, (high_res_0, high_res_1))
        return decode(segmenter, features, box, torch.zeros(1, dtype=torch.long))[0]

    side = segmenter.image_size
    features = {
        "embedding": torch.rand(1, 256, side // 16, side // 16),
        "high_res_0": torch.rand(1, 32, side // 4, side // 4),
        "high_res_1": torch.rand(1, 64, side // 8, side // 8),
    }
    _export(detector, boxes, {"image": image}, ["boxes", "scores"], paths["detector"])
    _export(segmenter, embed, {"image": torch.rand(1, 3, side, side)}, list(features), paths["encoder"])
    _export(segmenter, outline, features | {"box": _box(side)}, ["mask_logits"], paths["decoder"])


def _lite_medsam(_: Release, paths: dict[str, Path]) -> None:
    from pipeline.training.lite_medsam import TEACHER_SIZE, build_lite_medsam

    _export_sam(build_lite_medsam(), TEACHER_SIZE, paths)


def _mobile_sam(_: Release, paths: dict[str, Path]) -> None:
    import torch

    from pipeline.training import architectures  # noqa: F401  declares what torchvision lacks

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it imports timm by names of old, and registers models twice
        from mobile_sam.build_sam import build_sam_vit_t

        torch.manual_seed(0)
        sam = build_sam_vit_t().eval()
    _export_sam(sam, sam.image_encoder.img_size, paths)


def _export_sam(sam, size: int, paths: dict[str, Path]) -> None:
    """The encoder, and the decoder with a box for a prompt, of a network in SAM's parts."""
    import torch

    def outline(embedding, box):
        sparse, dense = sam.prompt_encoder(points=None, boxes=box, masks=None)
        masks, _ = sam.mask_decoder(
            image_embeddings=embedding,
            image_pe=sam.prompt_encoder.get_dense_pe(),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output=False,
        )
        return masks[:, 0]

    image = torch.rand(1, 3, size, size)
    with torch.inference_mode():
        embedding = sam.image_encoder(image)
    prompt = {"embedding": torch.rand(embedding.shape), "box": _box(size)}
    _export(sam, sam.image_encoder, {"image": image}, ["embedding"], paths["encoder"])
    _export(sam, outline, prompt, ["mask_logits"], paths["decoder"])


def _box(size: int):
    import torch

    return torch.tensor([[0.25, 0.25, 0.75, 0.75]]) * size


def _export(network, forward: Callable, inputs: dict, outputs: list[str], path: Path) -> None:
    """torch's tracing exporter, with its defaults, on a function of a network. A stopped run leaves no half file."""
    import torch
    from torch import nn

    class Graph(nn.Module):
        def __init__(self):
            super().__init__()
            self.network = network  # so that its weights are the graph's

        def forward(self, *given):
            return forward(*given)

    path.parent.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings(), replace_path(path) as temporary, torch.no_grad():
        warnings.simplefilter("ignore")  # about the exporter's age and about sizes that become constants
        torch.onnx.export(
            Graph().eval().requires_grad_(False),
            tuple(inputs.values()),
            temporary,
            input_names=list(inputs),
            output_names=outputs,
            opset_version=_OPSET,
            dynamo=False,
        )


_EXPORTS: dict[str, Callable[[Release, dict[str, Path]], None]] = {
    "reference": _reference,
    "lite_medsam": _lite_medsam,
    "mobile_sam": _mobile_sam,
}
