"""The model card of a release, and the tables it shares with the README."""

from __future__ import annotations

import re
from collections.abc import Mapping

from hub.card_metadata import front_matter, measured_precisions
from hub.errors import WeightsError
from hub.release import Release, precision_rank
from hub.sources import SOURCES, sources_table
from hub.tables import markdown_table

#: Figures a precision and source, and the head of their column.
COLUMNS = {"dice": "Dice", "iou": "IoU", "box_recall_50": "box recall"}

_CARD = """---
{metadata}
---

# AutoMedSeg {version}

**Research software, not a medical device.**

Finds regions in a medical image and outlines them, without any prompt: YOLO-NAS-S gives the boxes, MedSAM2 (SAM2.1
Hiera-T) gives a mask for each. Both run on onnxruntime; torch is not needed.

## Use

Any graph, without this project's code:

```python
import onnxruntime
from huggingface_hub import hf_hub_download

session = onnxruntime.InferenceSession(hf_hub_download("{repo}", "{graph}", revision="v{version}"))
```

The whole method, from image to masks:

```python
from pipeline import AutoSegmenter

segmenter = AutoSegmenter.from_release("{repo}@v{version}", precision="{precision}")
result = segmenter("scan.png")
```

`pipeline` is the package of the AutoMedSeg repository. Only the files of the chosen precision are fetched, and the size
and sha256 of each are checked against `manifest.json`.

{precisions}

## Classes

{classes}

## Intended use

- Research on segmentation and on running it on ordinary processors; teaching; a first outline that a person corrects.

## What it must not be used for

- Diagnosis, treatment or any other decision about a patient: this is research software, not a medical device.
- Anything commercial: the terms of the training data forbid it.
- Images unlike those below, unless you measure it on your own. It may find nothing, or the wrong thing, with a high
  score. It was not measured by age, sex, origin or scanner.

## Figures

{figures}

Dice and IoU of an image compare the union of the predicted masks of a class with the union of the true ones, at the
original size. Every test image with any truth counts, and a miss is 0. A source's figure is the mean over its images;
the mean in the last row is over sources. Box recall is at IoU 0.5.

### Where it fails

{failures}

### Quantization

{quantization}

## Training data and terms

{training}

{sources}

{runs}
{terms}

## Citation

```bibtex
@software{{automedseg,
  title = {{AutoMedSeg: prompt-free medical image segmentation with quantized YOLO-NAS and MedSAM2}},
  version = {{{version}}},
  year = {{{year}}},
  license = {{{license}}}
}}
```

Please cite the two networks too, MedSAM2 (Ma et al., arXiv:2504.03600, 2025) and YOLO-NAS (Deci, super-gradients,
2023), and the data sets above as their owners ask.

Made from revision `{revision}`, {created}.
"""


def model_card(release: Release, repo: str = "user/repo") -> str:
    """README.md of a release in `repo`: YAML front-matter and Markdown, made from its config and manifest alone."""
    manifest, detector = release.manifest, release.config["detector"]
    thresholds = detector.get("class_thresholds", {})
    classes = [
        (entry["id"], entry["name"], thresholds.get(entry["name"], detector["score_threshold"]))
        for entry in release.config["classes"]
    ]
    precisions = [
        (name, f"{entry.get('bytes', 0) / 1e6:.1f} MB", entry.get("note"))
        for name, entry in sorted(manifest.get("precisions", {}).items(), key=lambda item: precision_rank(item[0]))
    ]
    sources = _trained_sources(manifest)
    default = next(iter(release.precisions), "int8")
    return _CARD.format(
        metadata=front_matter(manifest, f"AutoMedSeg {release.version}", sources),
        repo=repo,
        graph=next(
            (name for name in manifest["files"] if name.startswith(f"onnx/{default}/")), "onnx/int8/detector.onnx"
        ),
        failures=failures_table(manifest),
        quantization=quantization_table(manifest),
        terms=_terms(manifest),
        license=manifest.get("license", "unknown"),
        year=str(manifest.get("created", "unknown"))[:4],
        version=release.version,
        precision=default,
        precisions=markdown_table(("precision", "onnx files", "note"), precisions, texts=3),
        classes=markdown_table(("id", "name", "score threshold"), classes, texts=3),
        figures=figures_table(manifest),
        training=_training(manifest),
        sources=sources_table(sources),
        runs=_runs(manifest),
        revision=manifest.get("revision", "unknown"),
        created=manifest.get("created", "unknown"),
    )


def figures_table(manifest: Mapping) -> str:
    """What a release reaches, as Markdown: one row a source, a mean below, Dice, IoU and box recall a precision.

    `manifest["figures"]` is `{"split": ..., "command": ..., "revision": ..., "machine": ...,
    PRECISION: {"macro": FIGURES, "sources": {name: {"class": ..., "images": n, FIGURES}}, "total_ms_median": ms}}`;
    FIGURES are `dice`, `iou` and `box_recall_50` in 0..1. What was not measured shows as a dash.
    """
    figures = manifest.get("figures") or {}
    precisions = measured_precisions(figures)
    if not precisions:
        return "No figures were measured for this release yet."
    heads = [f"{head} {precision}" for precision in precisions for head in COLUMNS.values()]
    rows = []
    for name in dict.fromkeys(name for precision in precisions for name in figures[precision].get("sources", {})):
        cells = [figures[precision].get("sources", {}).get(name, {}) for precision in precisions]
        known = {key: value for cell in cells for key, value in cell.items()}
        rows.append((name, known.get("class", "-"), known.get("images", "-"), *_numbers(cells)))
    rows.append(("**mean over sources**", "", "", *_numbers([figures[p].get("macro", {}) for p in precisions])))
    medians = [f"{p} {figures[p]['total_ms_median']:.0f} ms" for p in precisions if "total_ms_median" in figures[p]]
    table = markdown_table(("source", "class", "images", *heads), rows, texts=2)
    lines = [f"The {figures.get('split', 'test')} split, with automatic boxes.", "", table]
    if any("dice_95" in figures[precision].get("macro", {}) for precision in precisions):
        lines += ["", "In brackets: 95 % intervals, by patient."]
    if medians:
        lines += ["", f"Median time of an image: {', '.join(medians)}."]
    if "command" in figures:
        origin = ", ".join(str(figures[key]) for key in ("machine", "revision") if figures.get(key))
        lines += ["", f"Made by `{figures['command']}`{f' ({origin})' if origin else ''}."]
    return "\n".join(lines)


def failures_table(manifest: Mapping) -> str:
    """What goes wrong, the weakest source first, as Markdown: what is missed, and what is found where nothing is."""
    figures = manifest.get("figures") or {}
    precisions = measured_precisions(figures)
    sources = figures[precisions[0]].get("sources", {}) if precisions else {}
    if not sources:
        return "No figures were measured for this release yet."
    rows = []
    for name, cells in sorted(sources.items(), key=lambda item: item[1].get("dice") or 0):
        recall, false = cells.get("box_recall_50"), cells.get("false_positives_per_empty_image")
        missed = "-" if recall is None else f"{100 * (1 - recall):.0f} %"
        dice = "-" if cells.get("dice") is None else f"{cells['dice']:.3f}"
        told = "-" if false is None else f"{false:.2f}"
        rows.append((name, cells.get("class", "-"), dice, missed, told, cells.get("empty_images", "-")))
    head = ("source", "class", "Dice", "boxes missed", "false boxes an image without any truth", "such images")
    said = f"{precisions[0]}, the {figures.get('split', 'test')} split, the weakest source first."
    return f"{said}\n\n{markdown_table(head, rows, texts=2)}"


def quantization_table(manifest: Mapping) -> str:
    """What each precision costs and gives, as Markdown; the loss to fp32 where both were measured."""
    figures, sizes = manifest.get("figures") or {}, manifest.get("precisions", {})
    macros = {name: figures[name].get("macro", {}) for name in measured_precisions(figures)}
    rows = []
    whole = macros.get("fp32", {}).get("dice")
    for name in sorted(sizes, key=precision_rank):
        macro, time = macros.get(name, {}), figures.get(name, {}).get("total_ms_median")
        loss = "-" if None in (whole, macro.get("dice")) or name == "fp32" else f"{whole - macro['dice']:.4f}"
        size, numbers = f"{sizes[name].get('bytes', 0) / 1e6:.1f} MB", (_number(macro.get(key)) for key in COLUMNS)
        rows.append((name, size, *numbers, loss, "-" if time is None else f"{time:.0f} ms"))
    head = ("precision", "onnx files", "Dice", "IoU", "box recall", "less Dice than fp32", "median time")
    lines = [markdown_table(head, rows)]
    missing = [name for name in sorted(sizes, key=precision_rank) if name not in macros]
    if missing and macros:
        lines += ["", f"Not measured on this split: {', '.join(missing)}."]
    return "\n".join(lines)


def fill(text: str, mark: str, content: str) -> str:
    """Put `content` between `<!-- mark -->` and `<!-- /mark -->` of a Markdown text; raises WeightsError without."""
    pattern = re.compile(rf"(<!-- {mark} -->\n).*?(<!-- /{mark} -->)", re.DOTALL)
    if not pattern.search(text):
        raise WeightsError(f"no <!-- {mark} --> and <!-- /{mark} --> to fill.")
    return pattern.sub(lambda match: f"{match[1]}{content}\n{match[2]}", text, count=1)


def fill_readme(text: str, manifest: Mapping) -> str:
    """The repository's README with the tables that are made from the release."""
    return fill(fill(text, "figures", figures_table(manifest)), "sources", sources_table())


def _numbers(cells: list[Mapping]) -> list[str]:
    return [_with_interval(cell, key) for cell in cells for key in COLUMNS]


def _with_interval(cell: Mapping, key: str) -> str:
    """A figure, and its 95 % interval where one was measured: '0.797 (0.78 to 0.81)'."""
    ends = cell.get(f"{key}_95")
    return _number(cell.get(key)) + (f" ({ends[0]:.2f} to {ends[1]:.2f})" if ends else "")


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _terms(manifest: Mapping) -> str:
    """The licence of the whole, and of the parts that came from elsewhere with one of their own."""
    lines = [
        f"The weights as a whole are under {manifest.get('license', 'CC-BY-NC-SA-4.0')}, the strictest of these terms.",
        "The code is under Apache-2.0.",
    ]
    for part, source in manifest.get("licenses", {}).items():
        lines += ["", f"The {part} is under {source['license']}, as its source: {source['source']}."]
    return "\n".join(lines)


def _trained_sources(manifest: Mapping) -> list[str]:
    return list(manifest.get("trained_on", {}).get("sources") or SOURCES)


def _training(manifest: Mapping) -> str:
    trained = manifest.get("trained_on", {})
    parts = {name: value for name, value in trained.items() if name not in ("sources", "runs")}
    if isinstance(trained.get("sources"), Mapping):
        parts |= {f"`{name}`": value for name, value in trained["sources"].items() if value}
    lines = [f"- {name}: {_sentence(value)}" for name, value in parts.items()]
    return "\n".join(lines) or "The manifest does not say how many images of each set were used."


def _runs(manifest: Mapping) -> str:
    """The commands of the training runs in order, what they ran on, and the plots of their logs; '' without any."""
    runs = manifest.get("trained_on", {}).get("runs") or []
    if not runs:
        return ""
    lines = ["### Training runs, in order", ""]
    for run in runs:
        facts = (f"{key} {run[key]}" for key in ("seed", "revision", "data", "init") if run.get(key) is not None)
        spent = f"{run.get('samples', '?')} samples, {run.get('minutes', '?')} minutes, {run.get('machine', '?')}"
        lines += [f"- {run.get('network', '?')}: {spent}; {', '.join(facts)}", "", "  ```bash"]
        lines += [f"  {run.get('command', '?')}", "  ```", ""]
    plots = [name for name in manifest.get("files", {}) if name.startswith("training/") and name.endswith(".png")]
    return "\n".join([*lines, *(f"![{name}]({name})" for name in plots), "", ""])


def _sentence(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_sentence(part)}" for key, part in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
