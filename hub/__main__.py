"""python -m hub publish | pull | list | verify | diff | space | card | figures: releases of the weights."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from hub.card import fill_readme, model_card
from hub.client import hub_api
from hub.diff import difference
from hub.errors import WeightsError
from hub.files import replace_file
from hub.publish import plan, publish, release_to_publish
from hub.pull import pull
from hub.reference import Reference, parse_repo
from hub.release import Release, write_figures
from hub.resolve import EMBEDDED, resolve, resolve_on_hub
from hub.space import publish_space, space_files
from hub.verify import absent_parts, faults_of
from hub.versions import version_lines


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit code, 2 where something was wrong."""
    options = _parser().parse_args(arguments)
    try:
        return options.run(options)
    except (WeightsError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("Stopped.", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m hub", description="Releases of the weights.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_publish(commands)
    _add_pull(commands)
    listing = commands.add_parser("list", help="list the versions of a repository on the Hub, newest first")
    listing.add_argument("repo", metavar="user/name")
    listing.set_defaults(run=_list)
    verify = commands.add_parser("verify", help="check the size and sha256 of every file of a release")
    verify.add_argument("weights", help="embedded, a folder, or user/repo[@revision]")
    verify.set_defaults(run=_verify)
    diff = commands.add_parser("diff", help="show figures, sizes and classes of two releases side by side")
    diff.add_argument("first", help="embedded, a folder, or user/repo[@revision]")
    diff.add_argument("second", help="embedded, a folder, or user/repo[@revision]")
    diff.set_defaults(run=_diff)
    _add_space(commands)
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


def _add_publish(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser("publish", help="publish a release folder on the Hub: one commit, and its tag")
    parser.add_argument("folder", type=Path, nargs="?", default=EMBEDDED, help="default: the embedded release")
    parser.add_argument("--repo", required=True, metavar="user/name", help="made where it does not exist")
    parser.add_argument("--version", metavar="X.Y.Z", help="publish under this version (default: the manifest's)")
    parser.add_argument("--private", action="store_true", help="make a new repository private")
    parser.add_argument("--dry-run", action="store_true", help="check, and show what would change, but change nothing")
    parser.set_defaults(run=_publish)


def _add_pull(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser("pull", help="fetch and check a release from the Hub")
    parser.add_argument("weights", metavar="user/name[@revision]", help="a version such as v1.0.0, a branch, a commit")
    parser.add_argument("--precision", help="fetch what this precision needs, such as int8 (default: everything)")
    parser.add_argument("--to", type=Path, metavar="DIR", help="put it into this folder (default: the Hub's cache)")
    parser.set_defaults(run=_pull)


def _add_space(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser("space", help="publish the page as a Space")
    parser.add_argument("repo", metavar="user/name")
    text = "published weights that the page runs, pinned to their commit (default: the model repository user/name)"
    parser.add_argument("--weights", metavar="user/name[@revision]", help=text)
    parser.add_argument("--private", action="store_true", help="make a new Space private")
    parser.add_argument("--dry-run", action="store_true", help="list the Space's files, but change nothing")
    parser.set_defaults(run=_space)


def _publish(options: argparse.Namespace) -> int:
    repo = parse_repo(options.repo)
    release = release_to_publish(options.folder, options.version)
    api = hub_api(repo)
    planned = plan(api, repo, release)
    print(planned, flush=True)
    if options.dry_run:
        print("Nothing was changed.")
        return 0
    commit = publish(api, planned, private=options.private)
    print(f"{repo}@{planned.tag} is commit {commit}.")
    return 0


def _pull(options: argparse.Namespace) -> int:
    reference = Reference.parse(options.weights)
    release = pull(reference, options.precision, options.to)
    print(f"{release.folder}: version {release.version}, {options.precision or 'everything'}, all as listed")
    print(f"{reference} is commit {release.commit or resolve_on_hub(reference).commit}.")
    return 0


def _list(options: argparse.Namespace) -> int:
    repo = parse_repo(options.repo)
    for line in version_lines(hub_api(repo), repo):
        print(line, flush=True)
    return 0


def _verify(options: argparse.Namespace) -> int:
    release = resolve(options.weights)
    faults, absent = faults_of(release), absent_parts(release)
    for fault in faults:
        print(fault, file=sys.stderr)
    total = sum(entry["bytes"] for entry in release.manifest["files"].values())
    state = f"{len(faults)} faults" if faults else "all as listed"
    if absent:
        state += f"; without {', '.join(absent)}"
    print(
        f"{release.folder}: version {release.version}, {len(release.manifest['files'])} files, {total} bytes, {state}"
    )
    return 2 if faults else 0


def _diff(options: argparse.Namespace) -> int:
    print(difference(resolve(options.first), resolve(options.second)))
    return 0


def _space(options: argparse.Namespace) -> int:
    repo = parse_repo(options.repo)
    weights = Reference.parse(options.weights or repo)
    files = space_files(resolve_on_hub(weights), weights.repo)
    for name, content in files.items():
        print(f"  {name:40} {len(content):9} bytes")
    if options.dry_run:
        print("Nothing was changed.")
        return 0
    print(publish_space(hub_api(repo), repo, files, private=options.private))
    return 0


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
