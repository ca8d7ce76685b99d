"""What an answer cost: a bar a stage, the weights' size, this process' memory, and each precision used so far."""

from __future__ import annotations

import sys
from html import escape
from pathlib import Path

from page.words import Words

_STAGES = ("read", "detect", "embed", "decode", "post", "total")
_MEMORY_FILE = Path("/proc/self/status")


def costs_html(timings: dict[str, float], weights_bytes: int, runs: dict[str, dict[str, float]], words: Words) -> str:
    """A table of the stages of `timings` (milliseconds) with a bar each, then what else the answer cost.

    Parameters
    ----------
    timings
        Milliseconds of read, detect, embed, decode, post and total.
    weights_bytes
        Of the precision's graphs.
    runs
        Precision -> the timings of its first run on this image; they are compared where there are two.
    """
    memory = memory_bytes()
    facts = [words("weights_bytes", megabytes=f"{weights_bytes / 1e6:.0f}")]
    facts += [words("process_bytes", megabytes=f"{memory / 1e6:.0f}")] if memory else []
    stages = bars_html(words("milliseconds"), {words(stage): timings[stage] for stage in _STAGES}, "stages")
    return f'{stages}<p id="facts">{", ".join(facts)}</p>{_runs(runs, words)}'


def _runs(runs: dict[str, dict[str, float]], words: Words) -> str:
    if len(runs) < 2:
        return ""
    return bars_html(words("first_runs"), {name.upper(): times["total"] for name, times in runs.items()}, "runs")


def bars_html(caption: str, milliseconds: dict[str, float], name: str = "") -> str:
    """A table with a bar for each; the longest is as wide as the table."""
    most = max(*milliseconds.values(), 1e-9)
    rows = "".join(_bar(each, ms, ms / most) for each, ms in milliseconds.items())
    identity = f' id="{name}"' if name else ""
    return f'<table{identity} class="bars"><caption>{escape(caption)}</caption>{rows}</table>'


def _bar(name: str, ms: float, share: float) -> str:
    bar = f'<div class="bar" style="width: {min(share, 1):.1%}"></div>'
    return f'<tr><th scope="row">{escape(name)}</th><td class="ms">{ms:.0f}</td><td class="track">{bar}</td></tr>'


def memory_bytes() -> int | None:
    """Resident memory of this process; its peak where only that is known; None where the system does not say."""
    try:
        for line in _MEMORY_FILE.read_text(encoding="ascii").splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError):
        pass
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
