"""`python -m pipeline export`: trained weights -> a release folder with fp32 ONNX graphs.

A complete release takes three commands, in this order:

    python -m pipeline export --detector FILE --segmenter FILE --out RELEASE
    python -m pipeline quantize --release RELEASE --calibration PREPARED
    python -m eval figures ...      which writes what it measured into the manifest

With `--base` only the networks that are named are new; the others' graphs are the base release's.

A release that ships inside the repository is exported with `--no-training-weights`, because of its size.

The graphs hold their larger weights as float16 and a Cast to float32, which onnxruntime folds when it opens them: half
the bytes, computed in float32.
"""

from __future__ import annotations

import argparse
import io
import json
import shutil
import warnings
from pathlib import Path

import numpy as np
import onnx
import onnx.compose
import onnx.numpy_helper
import onnx.parser
import onnxruntime
import onnxsim
import torch
from torch import nn

from hub.files import replace_file, replace_path
from hub.release import Release, write_manifest
from hub.resolve import resolve
from hub.revision import git_revision
from pipeline.errors import InputError
from pipeline.training.architectures import build_detector, build_segmenter
from pipeline.training.config import read_config, read_object
from pipeline.training.graphs import DecoderGraph, DetectorGraph, EncoderGraph
from pipeline.training.memory_graphs import MemoryAttentionGraph, MemoryEncoderGraph
from pipeline.training.progress import load_weights, read_weights, save_weights
from pipeline.training.record import plot_log, read_record

OPSET = 17
#: The graphs of each network, by file name.
GRAPHS_OF = {"detector": ("detector",), "segmenter": ("image_encoder", "mask_decoder")}
GRAPHS = tuple(graph for graphs in GRAPHS_OF.values() for graph in graphs)
#: What a release for volumes and videos has beside them.
MEMORY_GRAPHS = ("memory_attention", "memory_encoder")
#: IoU over which the surer of two boxes of one class wins.
NMS_IOU = 0.6
#: What the graph drops at once; the thresholds that count are config.json's.
SCORE_FLOOR = 0.05
#: IoU from which a box of the same class has a say in where the surest lies. Chosen on val: eval/results/weights.md.
SAME_IOU = 0.8
#: Boxes a class that the graph gives.
_MOST_OF_A_CLASS = 100
#: Hiera's position map, and in front of a slash what it is made of.
POSITION = "position"
#: Smaller weights stay float32: they cost nothing.
_HALF_FROM = 1024

# Each anchor counts for its best class alone, then the surer box of a class wins; the surest come first. Then each
# becomes the mean of its class's boxes that show the same, weighted by score (box voting, Gidaris and Komodakis 2015).
# Overlaps have the anchors for their last axis, as onnxruntime is slow where that has two entries.
_NMS = """
<ir_version: 8, opset_import: ["" : {opset}]>
nms (float[1, A, 4] all_boxes, float[1, A, C] all_scores)
  => (float[N, 4] boxes, float[N] scores, int64[N] class_index)
<int64[1] most = {{{most}}}, float[1] iou = {{{iou}}}, float[1] floor = {{{floor}}}, float zero = {{0.0}},
 float same_iou = {{{same_iou}}}, int64[1] first_axis = {{0}}, int64[1] second_axis = {{1}},
 int64 class_column = {{1}}, int64 box_column = {{2}}>
{{
  best = ReduceMax <axes = [2], keepdims = 1> (all_scores)
  is_best = Equal (all_scores, best)
  of_best = Where (is_best, all_scores, zero)
  by_class = Transpose <perm = [0, 2, 1]> (of_best)
  kept = NonMaxSuppression (all_boxes, by_class, most, iou, floor)
  kept_scores = GatherND (by_class, kept)
  count = Shape (kept_scores)
  scores, order = TopK (kept_scores, count)
  ordered = Gather (kept, order)
  class_index = Gather <axis = 1> (ordered, class_column)
  box_index = Gather <axis = 1> (ordered, box_column)
  flat_boxes = Squeeze (all_boxes, first_axis)

  ends = Transpose <perm = [2, 0, 1]> (all_boxes)
  near, far = Split <axis = 0> (ends)
  surest_row = Gather <axis = 2> (ends, box_index)
  surest_ends = Transpose <perm = [0, 2, 1]> (surest_row)
  surest_near, surest_far = Split <axis = 0> (surest_ends)
  first = Max (surest_near, near)
  last = Min (surest_far, far)
  reach = Sub (last, first)
  inner = Max (reach, zero)
  shared = ReduceProd <axes = [0], keepdims = 0> (inner)
  sides = Sub (far, near)
  area = ReduceProd <axes = [0], keepdims = 0> (sides)
  surest_sides = Sub (surest_far, surest_near)
  surest_area = ReduceProd <axes = [0], keepdims = 0> (surest_sides)
  areas = Add (area, surest_area)
  union = Sub (areas, shared)
  needed = Mul (union, same_iou)
  is_same = GreaterOrEqual (shared, needed)

  flat_scores = Squeeze (all_scores, first_axis)
  scores_by_class = Transpose <perm = [1, 0]> (flat_scores)
  own_scores = Gather (scores_by_class, class_index)
  votes = Where (is_same, own_scores, zero)
  all_votes = ReduceSum <keepdims = 1> (votes, second_axis)
  weights = Div (votes, all_votes)
  boxes = MatMul (weights, flat_boxes)
}}
"""


def detector_onnx(detector: nn.Module, size: int, nms_iou: float = NMS_IOU) -> onnx.ModelProto:
    """YOLO-NAS -> `image` uint8 (1, S, S, 3) -> `boxes` float32 (N, 4), `scores` (N,), `class_index` int64 (N,).

    Fuses the module's RepVGG branches in place.
    """
    image = _noise(size)
    found = trace(DetectorGraph(detector, size), {"image": image}, ("all_boxes", "all_scores"), optimize=True)
    numbers = {"most": _MOST_OF_A_CLASS, "iou": nms_iou, "floor": SCORE_FLOOR, "same_iou": SAME_IOU}
    nms = onnx.parser.parse_model(_NMS.format(opset=OPSET, **numbers))
    nms.ir_version = found.ir_version
    for node in nms.graph.node:  # by its name, what is quantized and what stays float is told
        node.name = f"/nms/{node.output[0]}"
    merged = onnx.compose.merge_models(found, nms, [(name, name) for name in ("all_boxes", "all_scores")])
    del merged.opset_import[1:]  # merging listed the one opset twice, which the quantizer refuses
    onnx.checker.check_model(merged)
    return merged


def encoder_onnx(segmenter: nn.Module) -> onnx.ModelProto:
    """SAM2 -> `image` uint8 (1, S, S, 3) -> `embedding`, `high_res_0`, `high_res_1` float32."""
    image = {"image": _noise(segmenter.image_size)}
    encoder = EncoderGraph(segmenter)
    graph = trace(encoder, image, ("embedding", "high_res_0", "high_res_1"))
    _position_from_tables(graph, segmenter.image_encoder.trunk)
    _check_parity(graph, encoder, image)
    return graph


def _position_from_tables(graph: onnx.ModelProto, trunk: nn.Module) -> None:
    """Let onnxruntime make Hiera's position map when it opens the graph, from the two small tables that it is the sum
    of: 3 MB less on disk."""
    whole = next(weight for weight in graph.graph.initializer if weight.name == POSITION)
    coarse, window = trunk.pos_embed.detach().numpy(), trunk.pos_embed_window.detach().numpy()
    side = whole.dims[1]
    shape = np.array([*coarse.shape[:2], side, side], np.int64)
    constants = {"coarse": coarse, "window": window, "shape": shape, "repeats": shape // window.shape}
    graph.graph.initializer.remove(whole)
    graph.graph.initializer.extend(
        onnx.numpy_helper.from_array(array, f"{POSITION}/{name}") for name, array in constants.items()
    )
    steps = (
        ("Resize", ("coarse", None, None, "shape"), "resized", {"mode": "cubic", "cubic_coeff_a": -0.75}),
        ("Tile", ("window", "repeats"), "tiled", {}),
        ("Add", ("resized", "tiled"), "sum", {}),
    )
    nodes = [
        onnx.helper.make_node(
            kind, [f"{POSITION}/{name}" if name else "" for name in given], [f"{POSITION}/{made}"], **settings
        )
        for kind, given, made, settings in steps
    ]
    nodes.append(onnx.helper.make_node("Transpose", [f"{POSITION}/sum"], [POSITION], perm=[0, 2, 3, 1]))
    rest = list(graph.graph.node)
    del graph.graph.node[:]
    graph.graph.node.extend([*nodes, *rest])
    onnx.checker.check_model(graph)


def decoder_onnx(segmenter: nn.Module) -> onnx.ModelProto:
    """SAM2 -> the encoder's outputs, `point_coords` float32 (N, P, 2), `point_labels` int64 (N, P) -> `mask_logits`,
    `iou`, `object_score`, `mask_token` float32 (N, ...)."""
    grid = segmenter.sam_image_embedding_size
    inputs = {
        "embedding": torch.randn(1, 256, grid, grid),
        "high_res_0": torch.randn(1, 32, 4 * grid, 4 * grid),
        "high_res_1": torch.randn(1, 64, 2 * grid, 2 * grid),
        "point_coords": torch.rand(3, 2, 2) * segmenter.image_size,
        "point_labels": torch.tensor([[2, 3]] * 3),
    }
    axes = {"point_coords": {0: "N", 1: "P"}, "point_labels": {0: "N", 1: "P"}}
    outputs = ("mask_logits", "iou", "object_score", "mask_token")
    return trace(DecoderGraph(segmenter), inputs, outputs, axes | {name: {0: "N"} for name in outputs})


def memory_attention_onnx(segmenter: nn.Module) -> onnx.ModelProto:
    """SAM2 -> `embedding` float32 (1, 256, G, G) as the encoder gives it, `memories` float32 (N, M, 64, G, G),
    `memory_age` int64 (M,), `pointers` float32 (N, P, 256), `pointer_age` float32 (P,) -> `conditioned` float32
    (N, 256, G, G), which the decoder takes for the embedding."""
    grid = segmenter.sam_image_embedding_size
    inputs = {
        "embedding": torch.randn(1, 256, grid, grid),
        "memories": torch.randn(2, 3, 64, grid, grid),
        "memory_age": torch.tensor([0, 2, 1]),
        "pointers": torch.randn(2, 4, 256),
        "pointer_age": torch.tensor([9.0, 2, 1, 4]),
    }
    axes = {"memories": {0: "N", 1: "M"}, "memory_age": {0: "M"}, "pointers": {0: "N", 1: "P"}}
    axes |= {"pointer_age": {0: "P"}, "conditioned": {0: "N"}}
    return trace(MemoryAttentionGraph(segmenter), inputs, ("conditioned",), axes)


def memory_encoder_onnx(segmenter: nn.Module) -> onnx.ModelProto:
    """SAM2 -> `embedding` float32 (1, 256, G, G), `mask_logits` float32 (N, 4 G, 4 G), `mask_token` float32 (N, 256),
    `object_score` float32 (N,) -> `memory` float32 (N, 64, G, G), `pointer` float32 (N, 256)."""
    grid = segmenter.sam_image_embedding_size
    inputs = {
        "embedding": torch.randn(1, 256, grid, grid),
        "mask_logits": 4 * torch.randn(3, 4 * grid, 4 * grid),
        "mask_token": torch.randn(3, 256),
        "object_score": torch.tensor([1.0, -1.0, 0.5]),
    }
    outputs = ("memory", "pointer")
    axes = {name: {0: "N"} for name in ("mask_logits", "mask_token", "object_score", *outputs)}
    return trace(MemoryEncoderGraph(segmenter), inputs, outputs, axes)


def store_half(model: onnx.ModelProto) -> onnx.ModelProto:
    """Keep the larger float32 weights as float16, with a Cast to float32 in front of their users."""
    stored = onnx.ModelProto()
    stored.CopyFrom(model)
    casts = []
    for weight in stored.graph.initializer:
        # vectors stay: quantization's scales have to be plain constants, and biases are small
        if weight.data_type != onnx.TensorProto.FLOAT or len(weight.dims) < 2 or np.prod(weight.dims) < _HALF_FROM:
            continue
        array, name = onnx.numpy_helper.to_array(weight), weight.name
        if not np.abs(array).max() < np.finfo(np.float16).max:
            continue
        weight.CopyFrom(onnx.numpy_helper.from_array(array.astype(np.float16), f"{name}/half"))
        casts.append(onnx.helper.make_node("Cast", [weight.name], [name], f"{name}/cast", to=onnx.TensorProto.FLOAT))
    nodes = [*casts, *stored.graph.node]
    del stored.graph.node[:]
    stored.graph.node.extend(nodes)
    return stored


def restore_float(model: onnx.ModelProto) -> None:
    """Undo `store_half`, in place; what was rounded stays rounded."""
    weights = {weight.name: weight for weight in model.graph.initializer}
    for node in list(model.graph.node):
        if node.op_type == "Cast" and node.input[0] in weights:
            weight = weights[node.input[0]]
            array = onnx.numpy_helper.to_array(weight).astype(onnx.helper.tensor_dtype_to_np_dtype(node.attribute[0].i))
            weight.CopyFrom(onnx.numpy_helper.from_array(array, node.output[0]))
            model.graph.node.remove(node)


def save_graph(model: onnx.ModelProto, path: Path) -> None:
    """Write a graph so that a stopped run leaves no half file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replace_path(path) as temporary:
        onnx.save(model, temporary)


def export_release(
    weights: dict[str, Path],
    out: Path,
    config: dict,
    *,
    version: str,
    trained_on: dict,
    base: Release | None = None,
    nms_iou: float = NMS_IOU,
    training_weights: bool = True,
    new_licenses: dict | None = None,
    memory: bool = False,
) -> Release:
    """Fill a release folder with fp32 graphs, config.json, float16 training weights (if wanted) and a manifest.

    Parameters
    ----------
    weights
        {'detector' | 'segmenter': trained weights}. What is not here has to be in `base`.
    base
        Where the graphs (and training weights) of the other networks come from.
    new_licenses
        Of weights that came from elsewhere, as `write_manifest` takes them.
    memory
        Export the segmenter's memory, too. Without new segmenter weights the base's memory graphs stay, if it has some.

    A release that was there is replaced, its int8 graphs with it: they are of other weights.
    """
    config = {name: part for name, part in config.items() if name != "scope"}  # it is of other features
    runs = list(trained_on.get("runs", []))
    runs += [
        {"network": name, **run} for name, path in weights.items() for run in read_record(path.with_suffix(".json"))
    ]
    graphs, states = {}, {}
    for name, path in weights.items():
        made, state = _EXPORTS[name](path, config, nms_iou, memory)
        graphs |= {graph: store_half(model) for graph, model in made.items()}
        states[name] = state
    for name in GRAPHS_OF.keys() - weights.keys():
        for graph in (*GRAPHS_OF[name], *(memory_graphs_in(base) if name == "segmenter" else ())):
            graphs[graph] = onnx.load(base.file(f"onnx/fp32/{graph}.onnx"))
    kept = {name: base.file(f"training/{name}.safetensors").read_bytes() for name in _kept(base, weights)}
    logs = {name: path.with_name("log.jsonl") for name, path in weights.items()}
    shutil.rmtree(out / "onnx", ignore_errors=True)
    for name, graph in graphs.items():
        save_graph(graph, out / "onnx" / "fp32" / f"{name}.onnx")
    shutil.rmtree(out / "training", ignore_errors=True)
    for name, state in states.items() if training_weights else ():
        save_weights(state, out / "training" / f"{name}.safetensors", torch.float16)
    for name, content in kept.items() if training_weights else ():
        with replace_file(out / "training" / f"{name}.safetensors", "wb") as file:
            file.write(content)
    for name, log in logs.items():
        plot_log(log, f"{name}, its last training", out / "training" / f"{name}.png")
    with replace_file(out / "config.json") as file:
        file.write(json.dumps(config, indent=2) + "\n")
    licenses = base.manifest.get("licenses", {}) if base else {}
    licenses = {name: part for name, part in licenses.items() if name not in weights} | (new_licenses or {})
    return list_files(out, version=version, trained_on=trained_on | ({"runs": runs} if runs else {}), licenses=licenses)


def memory_graphs_in(release: Release, precision: str = "fp32") -> tuple[str, ...]:
    """Those of the memory's graphs that a release has: both or none."""
    listed = release.manifest["files"]
    return tuple(graph for graph in MEMORY_GRAPHS if f"onnx/{precision}/{graph}.onnx" in listed)


def _kept(base: Release | None, weights: dict[str, Path]) -> list[str]:
    """Networks whose training weights are the base's."""
    listed = base.manifest["files"] if base else {}
    return [name for name in GRAPHS_OF if name not in weights and f"training/{name}.safetensors" in listed]


def _export_detector(path: Path, config: dict, nms_iou: float, _: bool) -> tuple[dict[str, onnx.ModelProto], dict]:
    detector = build_detector(_classes_of(path, config))
    load_weights(detector, path)
    state = _copy(detector)  # before the branches are fused
    return {"detector": detector_onnx(detector, config["detector"]["input_size"], nms_iou)}, state


def _export_segmenter(path: Path, config: dict, _: float, memory: bool) -> tuple[dict[str, onnx.ModelProto], dict]:
    segmenter = build_segmenter(config["segmenter"]["input_size"]).eval()
    load_weights(segmenter, path)
    state = _copy(segmenter)
    graphs = {"image_encoder": encoder_onnx(segmenter), "mask_decoder": decoder_onnx(segmenter)}
    if memory:
        graphs |= {
            "memory_attention": memory_attention_onnx(segmenter),
            "memory_encoder": memory_encoder_onnx(segmenter),
        }
    return graphs, state


_EXPORTS = {"detector": _export_detector, "segmenter": _export_segmenter}


def _copy(module: nn.Module) -> dict[str, torch.Tensor]:
    return {key: value.clone() for key, value in module.state_dict().items()}


def list_files(folder: Path, *, version: str, trained_on: dict, licenses: dict | None = None) -> Release:
    """Write the manifest of a release folder whose graphs are new, so without figures."""
    notes = {"fp32": "Stored as float16, computed in float32."}
    made = {"version": version, "revision": git_revision(), "trained_on": trained_on}
    return write_manifest(folder, **made, notes=notes, licenses=licenses)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="release folder; one in it is replaced")
    for name in GRAPHS_OF:
        text = f"trained {name} weights, .safetensors or .pt (default: the training/{name}.safetensors in --out)"
        parser.add_argument(f"--{name}", type=Path, metavar="FILE", help=text)
    text = "release whose networks are taken where no weights are named: embedded, a folder, user/repo[@revision]"
    parser.add_argument("--base", metavar="RELEASE", help=text)
    text = "config.json for own classes or thresholds (default: the base's, or the repository's classes)"
    parser.add_argument("--config", type=Path, metavar="FILE", help=text)
    text = "prepared folder whose classes the detector was trained on, for classes of your own"
    parser.add_argument("--classes-of", type=Path, metavar="DIR", help=text)
    text = "also export the segmenter's memory, for volumes and videos; its weights went through `train memory`"
    parser.add_argument("--memory", action="store_true", help=text)
    parser.add_argument("--version", default="0.1.0", help="version of the weights (default %(default)s)")
    parser.add_argument("--trained-on", type=Path, metavar="FILE", help="JSON for the manifest: sources and sentences")
    text = "leave out training/*.safetensors, which fine-tuning starts from: a smaller release"
    parser.add_argument("--no-training-weights", action="store_true", help=text)
    text = "IoU over which the surer of two boxes of a class wins (default %(default)s)"
    parser.add_argument("--nms-iou", type=float, default=NMS_IOU, metavar="IOU", help=text)


def run(arguments: argparse.Namespace) -> int:
    if not 0 < arguments.nms_iou <= 1:
        raise InputError("--nms-iou", str(arguments.nms_iou), "more than 0, at most 1")
    out, trained_on = arguments.out, {}
    base = resolve(arguments.base) if arguments.base else None
    if arguments.trained_on:
        trained_on = read_object(arguments.trained_on, "a JSON object for the manifest's trained_on")
    elif base:
        trained_on = base.manifest.get("trained_on", {})
    weights = {name: getattr(arguments, name) for name in GRAPHS_OF if getattr(arguments, name)}
    config = read_config(arguments.config, base, arguments.classes_of)
    if base is None:
        weights = {name: out / "training" / f"{name}.safetensors" for name in GRAPHS_OF} | weights
    if arguments.memory and "segmenter" not in weights:
        raise InputError("--memory", "no new segmenter to take it from", "--segmenter with what `train memory` wrote")
    release = export_release(
        weights,
        out,
        config,
        version=arguments.version,
        trained_on=trained_on,
        base=base,
        nms_iou=arguments.nms_iou,
        training_weights=not arguments.no_training_weights,
        memory=arguments.memory,
    )
    for name, entry in release.manifest["files"].items():
        print(f"{name:40} {entry['bytes'] / 1e6:8.2f} MB")
    print(f"{release.folder}: release {release.version}, fp32. Next: python -m pipeline quantize --release {out}")
    return 0


def _noise(size: int) -> torch.Tensor:
    return torch.randint(0, 256, (1, size, size, 3), dtype=torch.uint8)


def _classes_of(detector_weights: Path, config: dict) -> int:
    """The number of classes of a detector's weights, which has to be the config's."""
    head = read_weights(detector_weights).get("heads.head1.cls_pred.weight")
    if head is None:
        raise InputError(detector_weights, "no YOLO-NAS class head in it", "what `train detector` wrote")
    if len(head) != len(config["classes"]):
        expected = f"{len(config['classes'])}, as in the config. Name the classes in a file for --config."
        raise InputError(detector_weights, f"{len(head)} classes", expected)
    return len(head)


def trace(
    module: nn.Module,
    inputs: dict[str, torch.Tensor],
    outputs: tuple[str, ...],
    axes: dict | None = None,
    *,
    optimize: bool = False,
) -> onnx.ModelProto:
    """Trace, fold constants and hold the result against the module on the inputs it was traced with.

    `optimize` joins convolutions with what follows them. Not for transformers: it joins MatMul and Add into Gemm too,
    which the dynamic quantizer does not know.
    """
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        # torch announces the end of its tracing exporter; torch is pinned, and the graphs it makes are known here.
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.filterwarnings("ignore", "Constant folding", UserWarning)  # onnxsim folds what torch leaves
        # what is fixed while tracing (sizes) is meant to be fixed
        warnings.simplefilter("ignore", torch.jit.TracerWarning)
        torch.onnx.export(
            module.eval(),
            tuple(inputs.values()),
            buffer,
            input_names=list(inputs),
            output_names=list(outputs),
            dynamic_axes=axes,
            opset_version=OPSET,
            dynamo=False,
        )
    graph, _ = onnxsim.simplify(onnx.load_model_from_string(buffer.getvalue()), perform_optimization=optimize)
    onnx.checker.check_model(graph)
    _check_parity(graph, module, inputs)
    return graph


@torch.no_grad()
def _check_parity(graph: onnx.ModelProto, module: nn.Module, inputs: dict[str, torch.Tensor]) -> None:
    session = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    found = session.run(None, {name: value.numpy() for name, value in inputs.items()})
    given = module(*inputs.values())
    given = (given,) if torch.is_tensor(given) else given
    for output, array, wanted in zip(session.get_outputs(), found, given, strict=True):
        error = np.abs(array - wanted.numpy()).max() / max(np.abs(wanted.numpy()).max(), 1e-9)
        if not error < 1e-3:
            raise RuntimeError(f"{type(module).__name__}: {output.name} is off by {error:.1e} of torch's maximum")
