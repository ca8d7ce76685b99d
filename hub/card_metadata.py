"""The YAML front matter of a model card, by the Hub's model-card specification, from the manifest alone.

https://github.com/huggingface/hub-docs/blob/main/modelcard.md
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping

from hub.release import precision_rank
from hub.sources import SOURCES

#: Figures of a source -> the metric's type on the Hub, and its name.
METRICS = {
    "dice": ("dice", "Dice"),
    "iou": ("iou", "IoU"),
    "box_recall_50": ("recall", "Box recall at IoU 0.5"),
    "matched_box_iou": ("box_iou", "IoU of the matched boxes"),
    "false_positives_per_empty_image": ("false_positives", "False boxes an image without any truth"),
}
_TAGS = [
    "medical",
    "medical-imaging",
    "segmentation",
    "object-detection",
    "yolo-nas",
    "medsam2",
    "sam2",
    "onnxruntime",
    "int8",
]


def front_matter(manifest: Mapping, name: str, datasets: list[str]) -> str:
    """Licence, library, task, tags, data sets, metrics and, in model-index, every figure with its split."""
    lines = [
        f"license: {manifest.get('license', 'CC-BY-NC-SA-4.0').lower()}",
        "library_name: onnx",
        "pipeline_tag: image-segmentation",
        "tags:",
        *(f"- {tag}" for tag in _TAGS),
        "datasets:",
        *(f"- {dataset}" for dataset in datasets),
    ]
    results = list(_results(manifest.get("figures") or {}))
    if results:
        used = dict.fromkeys(line.removeprefix("    - type: ") for line in results if line.startswith("    - type: "))
        lines += ["metrics:", *(f"- {metric}" for metric in used)]
        lines += ["model-index:", f"- name: {json.dumps(name)}", "  results:", *results]
    return "\n".join(lines)


def measured_precisions(figures: Mapping) -> list[str]:
    """Precisions that figures hold something of, the default first."""
    known = (name for name, part in figures.items() if isinstance(part, Mapping) and {"macro", "sources"} & set(part))
    return sorted(known, key=precision_rank)


def _results(figures: Mapping) -> Iterator[str]:
    """YAML lines, one result a source and precision; then the means over the sources."""
    split = figures.get("split", "test")
    for precision in measured_precisions(figures):
        part = figures[precision]
        for source, cells in part.get("sources", {}).items():
            title = SOURCES[source].title if source in SOURCES else source
            yield from _result(source, title, split, precision, cells)
        means = part.get("macro", {}) | {key: part[key] for key in ("total_ms_median",) if part.get(key) is not None}
        yield from _result("all", "All sources, mean over sources", split, precision, means)


def _result(source: str, title: str, split: str, precision: str, cells: Mapping) -> Iterator[str]:
    kinds = METRICS | {"total_ms_median": ("latency", "Median milliseconds an image")}
    known = [(kinds[key], cells[key]) for key in kinds if cells.get(key) is not None]
    if not known:
        return
    yield "  - task:"
    yield "      type: image-segmentation"
    yield f"      name: {json.dumps('Prompt-free segmentation' + _class(cells))}"
    yield "    dataset:"
    yield f"      type: {source}"
    yield f"      name: {json.dumps(title)}"
    yield f"      split: {split}"
    yield "    metrics:"
    for (kind, name), value in known:
        yield f"    - type: {kind}"
        yield f"      value: {json.dumps(value)}"
        yield f"      name: {json.dumps(f'{name}, {precision}')}"


def _class(cells: Mapping) -> str:
    return f" of {cells['class']}" if cells.get("class") else ""
