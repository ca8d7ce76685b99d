"""The versions of a repository, newest first, each with what its manifest says."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from hub.client import plain_errors
from hub.errors import WeightsError
from hub.reference import Reference, version_of
from hub.release import Release
from hub.resolve import resolve_on_hub

if TYPE_CHECKING:
    from huggingface_hub import HfApi


def version_tags(api: HfApi, repo: str) -> dict[str, str]:
    """Tag -> commit of every version, the newest first. Raises WeightsError."""
    with plain_errors(repo, "its versions could not be listed"):
        tags = api.list_repo_refs(repo).tags
    versions = [tag for tag in tags if version_of(tag.name)]
    versions.sort(key=lambda tag: version_of(tag.name), reverse=True)
    return {tag.name: tag.target_commit for tag in versions}


def version_lines(api: HfApi, repo: str) -> Iterator[str]:
    """A line a version: its tag, commit, date, sizes and mean Dice. Raises WeightsError where there is none."""
    tags = version_tags(api, repo)
    if not tags:
        raise WeightsError(f"{repo}: no versions; expected tags such as v1.0.0, which python -m hub publish makes.")
    for tag, commit in tags.items():
        try:
            said = _summary(resolve_on_hub(Reference(repo, commit)))
        except WeightsError as error:
            said = f"no release that can be used: {error}"
        yield f"{tag:10} {commit[:12]}  {said}"


def _summary(release: Release) -> str:
    manifest = release.manifest
    sizes = [f"{name} {part.get('bytes', 0) / 1e6:.1f} MB" for name, part in manifest.get("precisions", {}).items()]
    figures = manifest.get("figures", {})
    dice = [
        f"Dice {figures[name]['macro']['dice']:.3f} ({name}, {figures.get('split', 'test')})"
        for name in manifest.get("precisions", {})
        if isinstance(figures.get(name), dict) and figures[name].get("macro", {}).get("dice") is not None
    ]
    return "  ".join([str(manifest.get("created", ""))[:10], ", ".join(sizes), ", ".join(dice)]).rstrip()
