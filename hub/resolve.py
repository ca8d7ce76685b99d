"""From what a user asks for to a checked release: 'embedded', a folder, or user/repo[@revision] on the Hub."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path

from hub.errors import WeightsError
from hub.release import Release

EMBEDDED = Path(__file__).parent / "embedded"

_REPO = re.compile(r"(?P<repo>[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)(?:@(?P<revision>[\w./-]+))?", re.ASCII)


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
    match = _REPO.fullmatch(str(weights))
    if match is None or folder.is_absolute():
        found = "a file" if folder.is_file() else "no such folder"
        raise WeightsError(
            f"{str(weights)!r}: {found}; expected 'embedded', a folder with manifest.json, or user/repo[@revision]."
        )
    return _from_hub(match["repo"], match["revision"] or "main")


def _from_hub(repo: str, revision: str) -> Release:
    folder = _download("manifest.json", repo, revision).parent
    # The cache names a snapshot's folder after its commit: a push in between can't mix two versions.
    return Release.open(folder, fetch=partial(_download, repo=repo, revision=folder.name))


def _download(name: str, repo: str, revision: str) -> Path:
    """One file of a model repository -> its path in the Hub's cache."""
    try:
        from huggingface_hub import errors, hf_hub_download
    except ImportError as error:
        raise WeightsError(
            f"{repo}: fetching from the Hub needs huggingface_hub; pip install huggingface_hub."
        ) from error
    asked = f"{repo}@{revision}"
    login = "log in with `hf auth login` or set HF_TOKEN"
    try:
        return Path(hf_hub_download(repo, name, revision=revision))
    except errors.GatedRepoError as error:
        said = f"the repository is gated; accept its terms on its page, then {login}."
        raise WeightsError(f"{asked}: {said}") from error
    except errors.RepositoryNotFoundError as error:
        said = f"no folder of that name here, and no such repository on the Hub, or it is private; {login}."
        raise WeightsError(f"{asked}: {said}") from error
    except errors.RevisionNotFoundError as error:
        raise WeightsError(f"{asked}: the repository has no such revision; name a branch, tag or commit.") from error
    except errors.LocalEntryNotFoundError as error:
        offline = isinstance(error.__cause__, errors.OfflineModeIsEnabled)
        why = "HF_HUB_OFFLINE is set" if offline else "the Hub can't be reached"
        said = f"no folder of that name here, {why}, and {name} is not in its cache; expected a network or a folder."
        raise WeightsError(f"{asked}: {said}") from error
    except errors.EntryNotFoundError as error:
        raise WeightsError(f"{asked}: holds no {name}; expected a repository with an AutoMedSeg release.") from error
    # HTTPError is the HTTP client's own base class: a connection that breaks during the download.
    except (errors.HFValidationError, errors.HTTPError, OSError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise WeightsError(f"{asked}: {name} could not be fetched ({reason}).") from error
