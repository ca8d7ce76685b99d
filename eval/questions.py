"""Two of the method's questions, answered from the table: automatic against true boxes, INT8 against FP32."""

from __future__ import annotations

from eval.row import REFERENCE
from hub.tables import markdown_table

_TRUE, _WHOLE = "int8-true", "fp32"


def boxes_answer(results: dict) -> list[str]:
    """Are automatic boxes as good as true ones? Yes where the paired 95 % interval of the loss holds 0 or gains."""
    row = results["rows"].get(_TRUE, {}).get("figures")
    if not row or not row["less_than_reference"]:
        return []
    macro = row["less_than_reference"]
    losses = {name: of["less_than_reference"] for name, of in row["sources"].items() if of.get("less_than_reference")}
    worse = [f"{name} ({_said(loss)})" for name, loss in losses.items() if loss["low"] > 0]
    as_good = [f"{name} ({_said(loss)})" for name, loss in losses.items() if loss["low"] <= 0]
    lines = [
        f"Are automatic boxes as good as true ones? {'No' if macro['low'] > 0 else 'Yes'}, over all sources: they cost "
        f"{_said(macro)} Dice."
    ]
    lines += [f"Worse: {', '.join(worse)}."] if worse else []
    lines += [f"No difference shown: {', '.join(as_good)}."] if as_good else []
    return lines


def quantization_lines(results: dict) -> list[str]:
    """INT8 against FP32, as Markdown: accuracy, speed, size; the loss is paired, image by image."""
    rows = {name: results["rows"].get(name, {}) for name in (REFERENCE, _WHOLE)}
    if not all("figures" in row for row in rows.values()):
        return []
    cells = []
    for name, row in rows.items():
        macro, size = row["figures"]["macro"], row.get("bytes") or results.get("sizes", {}).get(name)
        scores = [f"{macro[key]['mean']:.3f}" if macro[key] else "-" for key in ("dice", "iou")]
        milliseconds = f"{row['figures']['milliseconds']['p50']:.0f}"
        cells.append((row["title"], *scores, f"{size / 1e6:.1f}" if size else "-", milliseconds))
    lines = ["What quantization costs:", "", markdown_table(("precision", "Dice", "IoU", "MB", "ms"), cells)]
    loss = rows[_WHOLE]["figures"]["less_than_reference"]
    return [*lines, "", f"INT8 has {_said(loss)} less Dice than FP32 on the same images."] if loss else lines


def _said(loss: dict) -> str:
    return f"{loss['mean']:.3f} ({loss['low']:.3f} to {loss['high']:.3f})"
