"""What a measurement leaves: its results as JSON, and the table that is made of them."""

from __future__ import annotations

import json
from pathlib import Path

from hub.files import replace_file


def write_results(path: Path, results: dict) -> None:
    """Write results as JSON, whole or not at all."""
    with replace_file(path) as file:
        json.dump(results, file, indent=1)


def write_measured(folder: Path, name: str, results: dict, table: str) -> None:
    """Write NAME.json and NAME.md into `folder`, which is made where it lacks, and print the table."""
    folder.mkdir(parents=True, exist_ok=True)
    write_results(folder / f"{name}.json", results)
    with replace_file(folder / f"{name}.md") as file:
        file.write(table)
    print(table)
