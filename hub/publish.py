"""Publish a release: one commit with all that changed, then the tag of its version, which never moves again.

A repository on the Hub holds a release exactly as a folder does. What was published once stays what it is: its files
are named by a commit, and its version by a tag.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from hub.cache import git_digest
from hub.card import model_card
from hub.client import CONFLICT, FORBIDDEN, LOGIN, need_token, plain_errors, status_of
from hub.errors import WeightsError
from hub.graphs import check_graph
from hub.reference import parse_version, tag_of, version_of
from hub.release import CARD, MANIFEST, Release, json_text
from hub.verify import absent_parts, faults_of

if TYPE_CHECKING:
    from huggingface_hub import HfApi
    from huggingface_hub.hf_api import RepoFile

#: The Hub's own, which it makes together with a repository.
_KEPT = (".gitattributes",)


@dataclass(frozen=True)
class Change:
    """What publishing does to one file: sign '+' adds it, '~' replaces it, '-' takes it away; bytes as they will be."""

    sign: str
    name: str
    bytes: int

    def __str__(self) -> str:
        return f"  {self.sign} {self.name:40} {self.bytes / 1e6:9.2f} MB"


@dataclass(frozen=True)
class Plan:
    """What one publication will do.

    Attributes
    ----------
    files : every file of the release, name -> where it is, or its content
    parent : the commit that the new one follows; None where the repository is still to be made
    latest : the newest version that is there, as its tag; None where there is none
    changes : empty where an earlier publication stopped between its commit and its tag
    """

    repo: str
    release: Release
    files: Mapping[str, Path | bytes] = field(repr=False)
    parent: str | None
    latest: str | None
    changes: tuple[Change, ...]

    @property
    def tag(self) -> str:
        return tag_of(self.release.version)

    def __str__(self) -> str:
        after = f"after {self.latest}" if self.latest else "the first version"
        where = f"commit {self.parent[:12]}" if self.parent else "a new repository"
        lines = [f"{self.repo}: {self.tag}, {after}, on {where}", *map(str, self.changes)]
        if not self.changes:
            lines.append("  the files are there already; only the tag is missing")
        return "\n".join(lines)


def release_to_publish(folder: Path, version: str | None = None) -> Release:
    """A release folder that may be published, whole and checked, under another `version` where one is given.

    Raises WeightsError for the first thing that is wrong: the manifest, a file, the card, a graph that doesn't open.
    """
    release = Release.open(folder)
    parse_version(version or release.version)
    faults = [f"{release.folder / part}: not there." for part in absent_parts(release)] + faults_of(release)
    if faults:
        raise WeightsError(f"{faults[0][:-1]}{f' ({len(faults) - 1} more faults)' if faults[1:] else ''}.")
    _check_card(release)
    for name in release.manifest["files"]:
        if name.endswith(".onnx"):
            check_graph(release.file(name))
    if version and version != release.version:
        release = replace(release, version=version, manifest=release.manifest | {"version": version})
    return release


def plan(api: HfApi, repo: str, release: Release) -> Plan:
    """What publishing would do to `repo` as it is now. Raises WeightsError where it may not be done."""
    files = _files(release, repo)
    parent, tags = _state(api, repo)
    versions = sorted((version, tag) for tag in tags if (version := version_of(tag)))
    latest = versions[-1][1] if versions else None
    tag = tag_of(release.version)
    if tag in tags:
        said = f"{tag} is published already, as commit {tags[tag][:12]}, and a tag never moves"
        raise WeightsError(f"{repo}: {said}; expected a version after {latest}.")
    if versions and parse_version(release.version) < versions[-1][0]:
        raise WeightsError(f"{repo}: {tag} is not newer than {latest}; expected a version after that.")
    return Plan(repo, release, files, parent, latest, _changes(api, repo, parent, files, release))


def publish(api: HfApi, planned: Plan, *, private: bool = False) -> str:
    """Do what was planned, whole or not at all -> the commit that now holds the version. Raises WeightsError."""
    repo, parent = planned.repo, planned.parent
    need_token(repo)
    if parent is None:
        parent = _create(api, repo, private)
    elif private:
        _check_private(api, repo)
    commit = _commit(api, planned, parent) if planned.changes else parent
    _tag(api, planned, commit)
    return commit


def _check_card(release: Release) -> None:
    path = release.folder / CARD
    card = path.read_text("utf-8") if path.is_file() else None
    if card != model_card(release):
        found = "no model card" if card is None else "not the card that the manifest gives"
        raise WeightsError(f"{path}: {found}; make it with python -m hub card {release.folder}.")


def _files(release: Release, repo: str) -> dict[str, Path | bytes]:
    """All files by name. The card names the repository; the manifest is the folder's own, byte for byte, if it may."""
    own = (release.folder / MANIFEST).read_bytes()
    renamed = json_text(release.manifest).encode()
    manifest = own if Release.open(release.folder).version == release.version else renamed
    return {
        CARD: model_card(release, repo).encode(),
        MANIFEST: manifest,
        **{name: release.folder / name for name in release.manifest["files"]},
    }


def _state(api: HfApi, repo: str) -> tuple[str | None, dict[str, str]]:
    """The commit of the main branch, None without a repository, and the commit of every tag."""
    from huggingface_hub import errors

    with plain_errors(repo, "the repository could not be read"):
        try:
            refs = api.list_repo_refs(repo)
        except errors.GatedRepoError:
            raise
        except errors.RepositoryNotFoundError:
            return None, {}
    heads = [branch.target_commit for branch in refs.branches if branch.name == "main"]
    if not heads:
        raise WeightsError(f"{repo}: has no main branch; expected one, which every repository on the Hub starts with.")
    return heads[0], {tag.name: tag.target_commit for tag in refs.tags}


def _changes(
    api: HfApi, repo: str, parent: str | None, files: Mapping[str, Path | bytes], release: Release
) -> tuple[Change, ...]:
    there: dict[str, RepoFile] = {}
    if parent:
        from huggingface_hub.hf_api import RepoFile

        with plain_errors(repo, "the list of its files could not be read"):
            tree = api.list_repo_tree(repo, recursive=True, revision=parent)
            there = {entry.path: entry for entry in tree if isinstance(entry, RepoFile)}
    changes = []
    for name, content in files.items():
        old = there.pop(name, None)
        size = len(content) if isinstance(content, bytes) else release.manifest["files"][name]["bytes"]
        if old is None:
            changes.append(Change("+", name, size))
        elif not _same(old, content, release.manifest["files"].get(name, {}).get("sha256")):
            changes.append(Change("~", name, size))
    gone = [Change("-", name, entry.size) for name, entry in there.items() if name not in _KEPT]
    return tuple(sorted(changes + gone, key=lambda change: change.name))


def _same(there: RepoFile, content: Path | bytes, sha256: str | None) -> bool:
    """Large files are kept under their sha256, small ones under git's digest."""
    if there.lfs and sha256:
        return there.lfs.sha256 == sha256
    return there.blob_id == git_digest(content if isinstance(content, bytes) else content.read_bytes())


def _create(api: HfApi, repo: str, private: bool) -> str:
    """Make the repository -> its first commit."""
    from huggingface_hub import errors

    owner = repo.split("/")[0]
    with plain_errors(repo, "the repository could not be made"):
        try:
            api.create_repo(repo, private=private)
        except errors.HfHubHTTPError as error:
            if status_of(error) == CONFLICT and _state(api, repo)[0]:
                said = "someone else made the repository while this ran; look at what is there, then run again"
                raise WeightsError(f"{repo}: {said}.") from error
            if status_of(error) == CONFLICT:
                said = f"the repository exists, but this token may not see it; {LOGIN} as someone who may"
                raise WeightsError(f"{repo}: {said}.") from error
            if status_of(error) == FORBIDDEN:
                said = f"no such repository, and this token may not make one for {owner!r}"
                raise WeightsError(f"{repo}: {said}; use one with write access to {owner!r}.") from error
            raise
    parent, _ = _state(api, repo)
    if parent is None:
        raise WeightsError(f"{repo}: was made, but can't be seen; run again.")
    return parent


def _check_private(api: HfApi, repo: str) -> None:
    with plain_errors(repo, "the repository could not be read"):
        private = api.model_info(repo).private
    if not private:
        said = "the repository exists and is public; leave --private out, or make it private on its page first"
        raise WeightsError(f"{repo}: {said}.")


def _commit(api: HfApi, planned: Plan, parent: str) -> str:
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    release = planned.release
    operations = [
        CommitOperationDelete(change.name)
        if change.sign == "-"
        else CommitOperationAdd(change.name, planned.files[change.name])
        for change in planned.changes
    ]
    with plain_errors(planned.repo, f"{planned.tag} could not be uploaded"):
        done = api.create_commit(
            planned.repo,
            operations,
            commit_message=f"Version {release.version}",
            commit_description=f"Made from revision {release.manifest.get('revision', 'unknown')}.",
            parent_commit=parent,
        )
    return done.oid


def _tag(api: HfApi, planned: Plan, commit: str) -> None:
    from huggingface_hub import errors

    with plain_errors(planned.repo, f"commit {commit[:12]} is there, but {planned.tag} could not be put on it"):
        try:
            api.create_tag(planned.repo, tag=planned.tag, revision=commit, tag_message=f"Version {planned.tag[1:]}")
        except errors.HfHubHTTPError as error:
            if status_of(error) == CONFLICT:
                said = f"someone else published {planned.tag} while this ran, and a tag never moves"
                raise WeightsError(f"{planned.repo}: {said}; publish a newer version.") from error
            raise
