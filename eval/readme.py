"""`python -m eval readme`: the comparison in README.md and table.md, made from results.json."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from eval.report import markdown, summary_lines
from hub.card import fill
from hub.files import replace_file
from pipeline.errors import InputError


def fill_comparison(text: str, results: dict) -> str:
    """README with its comparison, between <!-- comparison --> and its end, from results.json."""
    return fill(text, "comparison", "\n".join(summary_lines(results)))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("results", type=Path, metavar="RESULTS", help="results.json of `table`")
    parser.add_argument("--readme", type=Path, required=True, metavar="FILE", help="README whose comparison is filled")


def run(arguments: argparse.Namespace) -> int:
    try:
        results = json.loads(arguments.results.read_text("utf-8"))
        text = arguments.readme.read_text("utf-8")
    except (OSError, ValueError) as error:
        raise InputError(arguments.results, f"unreadable ({error})", "results.json of `table`, and a README") from None
    filled = fill_comparison(text, results)
    with replace_file(arguments.results.with_name("table.md")) as file:
        file.write(markdown(results))
    with replace_file(arguments.readme) as file:
        file.write(filled)
    return 0
