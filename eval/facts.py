"""What is known of a row apart from its images, so that runs in several environments make one table."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from hub.files import replace_file


@dataclass(frozen=True)
class Facts:
    """One row, as the last run that opened it, or failed to, found it.

    Attributes
    ----------
    bytes : of its weights
    absent : why only its size and speed were measured; '' else
    reason : why it did not run; '' else
    milliseconds : of a few images, where `absent`
    """

    bytes: int | None = None
    absent: str = ""
    reason: str = ""
    milliseconds: list[float] = field(default_factory=list)


def read_facts(path: Path) -> Facts | None:
    """None where no run has asked for the row."""
    return Facts(**json.loads(path.read_text("utf-8"))) if path.is_file() else None


def write_facts(path: Path, facts: Facts) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with replace_file(path) as file:
        json.dump(asdict(facts), file)
