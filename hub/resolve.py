"""From what a user asks for to a checked release: 'embedded', a folder, or user/repo[@revision] on the Hub."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from hub.cache import check_as_named
from hub.client import LOGIN, hub_api, plain_errors
from hub.errors import WeightsError
from hub.reference import Reference, is_version, tag_of
from hub.release import MANIFEST, Release

EMBEDDED = Path(__file__).parent / "v1.7.0"


def resolve(weights: str | Path = "embedded") -> Release:
    """The release that `weights` names: 'embedded', a folder, or 'user/repo' or 'user/repo@revision' on the Hub.

    A folder of that name is taken before a repository. Of a Hub release only config.json and manifest.json are fetched
    here; every other file when `Release.file` asks for it, so only the files of the precision in use. All come from one
    commit, and what is in the Hub's cache already is used without a network.

    Raises WeightsError, in one sentence, where there is no such release or it can't be trusted.
    """
    if weights == "embedded":
        return Release.open(EMBEDDED)
    folder = Path(weights).expanduser()
    if str(weights) and folder.is_dir():
        return Release.open(folder)
    reference = Reference.match(str(weights))
    if reference is None or folder.is_absolute():
        found = "a file" if folder.is_file() else "no such folder"
        raise WeightsError(
            f"{str(weights)!r}: {found}; expected 'embedded', a folder with manifest.json, or user/repo[@revision]."
        )
    return resolve_on_hub(reference)


def resolve_on_hub(reference: Reference) -> Release:
    """The release that `reference` names on the Hub, never a folder. Raises WeightsError.

    '1.0.0' means the tag 'v1.0.0' where the repository has no branch or tag that is called '1.0.0' itself.
    """
    try:
        folder = _download(MANIFEST, reference.repo, reference.revision or "main").parent
    except WeightsError as error:
        if not is_version(reference.revision):
            raise
        try:
            folder = _download(MANIFEST, reference.repo, tag_of(reference.revision)).parent
        except WeightsError:
            raise error from None
    check_as_named(folder / MANIFEST)
    # The cache names a snapshot's folder after its commit: a push in between can't mix two versions.
    fetch = partial(_download, repo=reference.repo, revision=folder.name)
    return Release.open(folder, fetch=fetch, commit=folder.name)


def fetch_file(reference: Reference, name: str) -> tuple[Path, str]:
    """One file of any model repository, a release or not -> where it now is, and its commit. Raises WeightsError."""
    path = _download(name, reference.repo, reference.revision or "main")
    return path, path.parents[name.count("/")].name


def _download(name: str, repo: str, revision: str) -> Path:
    """One file of a model repository -> its path in the Hub's cache."""
    asked = f"{repo}@{revision}"
    api = hub_api(asked)
    from huggingface_hub import errors

    with plain_errors(asked, f"{name} could not be fetched"):
        try:
            return Path(api.hf_hub_download(repo, name, revision=revision))
        except errors.GatedRepoError:
            raise
        except errors.RepositoryNotFoundError as error:
            said = "no folder of that name here, and no such repository on the Hub, or it is private"
            raise WeightsError(f"{asked}: {said}; {LOGIN}.") from error
        except errors.LocalEntryNotFoundError as error:
            offline = isinstance(error.__cause__, errors.OfflineModeIsEnabled)
            why = "HF_HUB_OFFLINE is set" if offline else "the Hub can't be reached"
            said = f"{why}, and {name} is not in its cache; expected a network or a folder."
            raise WeightsError(f"{asked}: no folder of that name here, {said}") from error
        except errors.EntryNotFoundError as error:
            raise WeightsError(
                f"{asked}: holds no {name}; expected a repository with an AutoMedSeg release."
            ) from error
