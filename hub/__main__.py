"""python -m hub verify | card | figures: check a release, write its model card, put measured figures into it."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from hub.card import fill_readme, model_card
from hub.errors import WeightsError
from hub.files import replace_file
from hub.release import UNLISTED, Release, write_figures
from hub.resolve import resolve


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit code, 2 where something was wrong."""
    options = _parser().parse_args(arguments)
    try:
        return options.run(options)
    except (WeightsError, OSError) as error:
        print(error, file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m hub", description="Releases of the weights.")
    commands = parser.add_subparsers(required=True)
    verify = commands.add_parser("verify", help="check the size and sha256 of every file of a release")
    verify.add_argument("weights", help="embedded, a folder, or user/repo[@revision]")
    verify.set_defaults(run=_verify)
    card = commands.add_parser("card", help="write README.md, the model card, of a release")
    card.add_argument("folder", type=Path)
    card.add_argument("--readme", type=Path, help="also fill the tables of this README from the release")
    card.set_defaults(run=_card)
    figures = commands.add_parser("figures", help="put measured figures into a release's manifest and card")
    figures.add_argument("folder", type=Path)
    figures.add_argument("figures", type=Path, help="JSON, as the evaluation writes it")
    figures.add_argument("--readme", type=Path, help="also fill the tables of this README from the release")
    figures.set_defaults(run=_figures)
    return parser


def _verify(options: argparse.Namespace) -> int:
    release = resolve(options.weights)
    faults = _unlisted(release)
    for name in release.manifest["files"]:
        try:
            release.file(name)
        except WeightsError as error:
            faults.append(str(error))
    for fault in faults:
        print(fault, file=sys.stderr)
    total = sum(entry["bytes"] for entry in release.manifest["files"].values())
    state = f"{len(faults)} faults" if faults else "all as listed"
    print(
        f"{release.folder}: version {release.version}, {len(release.manifest['files'])} files, {total} bytes, {state}"
    )
    return 2 if faults else 0


def _unlisted(release: Release) -> list[str]:
    if release.fetch is not None:  # the Hub's cache holds what was asked for, no more
        return []
    names = (path.relative_to(release.folder) for path in sorted(release.folder.rglob("*")) if path.is_file())
    return [
        f"{release.folder / name}: not listed in the manifest."
        for name in names
        if name.as_posix() not in (*release.manifest["files"], *UNLISTED) and not name.parts[0].startswith(".")
    ]


def _card(options: argparse.Namespace) -> int:
    release = Release.open(options.folder)
    with replace_file(options.folder / "README.md") as file:
        file.write(model_card(release))
    if options.readme:
        text = fill_readme(options.readme.read_text("utf-8"), release.manifest)
        with replace_file(options.readme) as file:
            file.write(text)
    return 0


def _figures(options: argparse.Namespace) -> int:
    try:
        figures = json.loads(options.figures.read_text("utf-8"))
    except ValueError as error:
        raise WeightsError(f"{options.figures}: not valid JSON ({error}).") from error
    write_figures(options.folder, figures)
    return _card(options)


if __name__ == "__main__":
    sys.exit(main())
