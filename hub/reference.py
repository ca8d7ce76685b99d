"""How a release on the Hub is named: user/repo[@revision], and how its versions and tags are written."""

from __future__ import annotations

import re
from dataclasses import dataclass

from hub.errors import WeightsError

_REPO = r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*"
_REFERENCE = re.compile(rf"(?P<repo>{_REPO})(?:@(?P<revision>[\w./-]+))?", re.ASCII)
_VERSION = re.compile(r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)", re.ASCII)


@dataclass(frozen=True)
class Reference:
    """A repository on the Hub and what of it is meant: a branch, a tag or a commit; None is its main branch."""

    repo: str
    revision: str | None = None

    def __str__(self) -> str:
        return f"{self.repo}@{self.revision or 'main'}"

    @classmethod
    def match(cls, text: str) -> Reference | None:
        """'user/repo' or 'user/repo@revision' -> Reference; None for anything else."""
        found = _REFERENCE.fullmatch(text)
        return cls(found["repo"], found["revision"]) if found else None

    @classmethod
    def parse(cls, text: str) -> Reference:
        """As `match`. Raises WeightsError for anything else."""
        found = cls.match(text)
        if found is None:
            raise WeightsError(f"{text!r}: no name of a repository; expected user/repo or user/repo@revision.")
        return found


def parse_repo(text: str) -> str:
    """'user/repo', checked. Raises WeightsError."""
    reference = Reference.match(text)
    if reference is None or reference.revision:
        raise WeightsError(f"{text!r}: no name of a repository; expected user/name.")
    return reference.repo


def parse_version(version: str) -> tuple[int, int, int]:
    """'1.2.3' -> (1, 2, 3), which compares as versions do. Raises WeightsError."""
    found = _VERSION.fullmatch(version)
    if found is None:
        raise WeightsError(f"version {version!r}; expected three numbers, such as 1.0.0.")
    return int(found[1]), int(found[2]), int(found[3])


def tag_of(version: str) -> str:
    """The tag that marks a version on the Hub: '1.0.0' -> 'v1.0.0'."""
    return f"v{version}"


def version_of(tag: str | None) -> tuple[int, int, int] | None:
    """'v1.0.0' -> (1, 0, 0); None for a tag that marks no version."""
    found = _VERSION.fullmatch(tag[1:]) if tag and tag[0] == "v" else None
    return (int(found[1]), int(found[2]), int(found[3])) if found else None


def is_version(revision: str | None) -> bool:
    """Whether a revision is written as a version, '1.0.0', rather than as its tag."""
    return revision is not None and _VERSION.fullmatch(revision) is not None
