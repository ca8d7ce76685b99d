"""Publish the page as a Space: the code of this checkout, and weights that the Hub puts beside it when it builds."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from hub.client import need_token, plain_errors
from hub.errors import WeightsError
from hub.pull import names_of
from hub.release import MANIFEST, Release

if TYPE_CHECKING:
    from huggingface_hub import HfApi

ROOT = Path(__file__).parents[1]
#: What the page needs of the repository.
_FILES = ("app.py", "requirements.txt", "LICENSE")
_PACKAGES = ("page", "pipeline", "hub")
#: No release has a file of these kinds, so the weights stay behind.
_SUFFIXES = (".py", ".css", ".html", ".js")
_LEFT_OUT = ("pipeline/training/", "pipeline/datasets/")
_START = "space.py"

_LAUNCHER = '''"""Starts the page on the weights that this Space was built with."""

import sys

from app import main

sys.argv[1:] = ["--weights", "{weights}"]
main()
'''


def space_files(release: Release, weights_repo: str, root: Path = ROOT) -> dict[str, bytes]:
    """Every file of the Space, name -> content. Raises WeightsError where `release` is not of a commit on the Hub."""
    if release.commit is None:
        raise WeightsError(f"{release.folder}: a Space takes its weights from the Hub; publish them first.")
    weights = f"{weights_repo}@{release.commit}"
    preloaded = [MANIFEST, *names_of(release, release.precisions[0])]
    files = {
        "README.md": _front_matter((root / "README.md").read_text("utf-8"), weights_repo, release.commit, preloaded),
        _START: _LAUNCHER.format(weights=weights),
    }
    paths = [root / name for name in _FILES]
    paths += [path for package in _PACKAGES for path in sorted((root / package).rglob("*")) if path.suffix in _SUFFIXES]
    names = {path.relative_to(root).as_posix(): path for path in paths}
    contents = {name: path.read_bytes() for name, path in names.items() if not name.startswith(_LEFT_OUT)}
    return {name: text.encode() for name, text in files.items()} | contents


def publish_space(api: HfApi, repo: str, files: dict[str, bytes], *, private: bool = False) -> str:
    """Put the files into the Space `repo` in one commit, which is made where it lacks -> its address."""
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete
    from huggingface_hub.hf_api import RepoFile

    need_token(repo)
    with plain_errors(repo, "the Space could not be published"):
        api.create_repo(repo, repo_type="space", space_sdk="gradio", private=private, exist_ok=True)
        refs = api.list_repo_refs(repo, repo_type="space")
        heads = [branch.target_commit for branch in refs.branches if branch.name == "main"]
        if not heads:
            raise WeightsError(f"{repo}: the Space has no main branch; expected one, which every Space starts with.")
        there = api.list_repo_tree(repo, repo_type="space", recursive=True, revision=heads[0])
        gone = [entry.path for entry in there if isinstance(entry, RepoFile) and entry.path not in files]
        operations = [CommitOperationAdd(name, content) for name, content in files.items()]
        operations += [CommitOperationDelete(name) for name in gone if name != ".gitattributes"]
        message = "The page, as it is in its repository"
        api.create_commit(repo, operations, repo_type="space", commit_message=message, parent_commit=heads[0])
    return f"{api.endpoint}/spaces/{repo}"


def _front_matter(readme: str, weights_repo: str, commit: str, preloaded: list[str]) -> str:
    """README.md of the Space: this repository's front matter, its start and its weights put in, and the notice."""
    _, matter, text = readme.split("---\n", 2)
    matter = re.sub(r"^app_file: .*$", f"app_file: {_START}", matter, flags=re.MULTILINE)
    matter += f"models:\n- {weights_repo}\npreload_from_hub:\n- {weights_repo} {','.join(preloaded)} {commit}\n"
    introduction = text.split("\n## ", 1)[0].replace(" The weights come with the repository.", "")
    return f"---\n{matter}---\n{introduction.rstrip()}\n\nWeights: `{weights_repo}`, commit `{commit}`.\n"
