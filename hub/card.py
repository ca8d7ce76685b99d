"""The model card of a release, and the tables it shares with the README."""

from __future__ import annotations

import re
from collections.abc import Mapping

from hub.errors import WeightsError
from hub.release import Release, precision_rank
from hub.sources import SOURCES, sources_table

#: Figures a precision and source, and the head of their column.
_COLUMNS = {"dice": "Dice", "iou": "IoU", "box_recall_50": "box recall"}

_CARD = """---
license: cc-by-nc-sa-4.0
library_name: onnx
pipeline_tag: image-segmentation
tags:
- medical
- medical-imaging
- segmentation
- object-detection
- yolo-nas
- medsam2
- sam2
- onnxruntime
- int8
datasets:
{datasets}
---

# AutoMedSeg {version}

**Research software, not a medical device.**

Finds regions in a medical image and outlines them, without any prompt: YOLO-NAS-S gives the boxes, MedSAM2 (SAM2.1
Hiera-T at 512 pixels) gives a mask for each. Both run on onnxruntime; torch is not needed.

## Use

```python
from pipeline import AutoSegmenter

segmenter = AutoSegmenter.from_release("{repo}@v{version}", precision="{precision}")
result = segmenter("scan.png")
```

`pipeline` is the package of the AutoMedSeg repository. Only the files of the chosen precision are fetched, and the size
and sha256 of each are checked against `manifest.json`.

| precision | onnx files | note |
| --- | --- | --- |
{precisions}

## Classes

| id | name | score threshold |
| --- | --- | --- |
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

## Training data and terms

{training}

{sources}

{runs}
Weights take over the strictest of these terms: non-commercial research use, share-alike (CC BY-NC-SA 4.0). The code is
under Apache-2.0.

Made from revision `{revision}`, {created}.
"""


def model_card(release: Release, repo: str = "user/repo") -> str:
    """README.md of a release in `repo`: YAML front-matter and Markdown, made from its config and manifest alone."""
    manifest, detector = release.manifest, release.config["detector"]
    thresholds = detector.get("class_thresholds", {})
    classes = [
        f"| {entry['id']} | {entry['name']} | {thresholds.get(entry['name'], detector['score_threshold'])} |"
        for entry in release.config["classes"]
    ]
    precisions = [
        f"| {name} | {entry.get('bytes', 0) / 1e6:.1f} MB | {entry.get('note', '')} |"
        for name, entry in sorted(manifest.get("precisions", {}).items(), key=lambda item: precision_rank(item[0]))
    ]
    return _CARD.format(
        repo=repo,
        version=release.version,
        precision=next(iter(release.precisions), "int8"),
        datasets="\n".join(f"- {name}" for name in _trained_sources(manifest)),
        precisions="\n".join(precisions),
        classes="\n".join(classes),
        figures=figures_table(manifest),
        training=_training(manifest),
        sources=sources_table(_trained_sources(manifest)),
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
    measured = (
        name for name, part in figures.items() if isinstance(part, dict) and ("macro" in part or "sources" in part)
    )
    precisions = sorted(measured, key=precision_rank)
    if not precisions:
        return "No figures were measured for this release yet."
    heads = [f"{head} {precision}" for precision in precisions for head in _COLUMNS.values()]
    rows = ["| source | class | images |" + "".join(f" {head} |" for head in heads)]
    rows.append("| --- | --- | ---: |" + " ---: |" * len(heads))
    for name in dict.fromkeys(name for precision in precisions for name in figures[precision].get("sources", {})):
        cells = [figures[precision].get("sources", {}).get(name, {}) for precision in precisions]
        known = {key: value for cell in cells for key, value in cell.items()}
        rows.append(f"| {name} | {known.get('class', '-')} | {known.get('images', '-')} |" + _numbers(cells))
    rows.append("| **mean over sources** | | |" + _numbers([figures[p].get("macro", {}) for p in precisions]))
    medians = [f"{p} {figures[p]['total_ms_median']:.0f} ms" for p in precisions if "total_ms_median" in figures[p]]
    lines = [f"The {figures.get('split', 'test')} split, with automatic boxes.", "", *rows]
    if medians:
        lines += ["", f"Median time of an image: {', '.join(medians)}."]
    if "command" in figures:
        origin = ", ".join(str(figures[key]) for key in ("machine", "revision") if figures.get(key))
        lines += ["", f"Made by `{figures['command']}`{f' ({origin})' if origin else ''}."]
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


def _numbers(cells: list[Mapping]) -> str:
    return "".join(f" {cell[key]:.3f} |" if cell.get(key) is not None else " - |" for cell in cells for key in _COLUMNS)


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
