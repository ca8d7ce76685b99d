"""Weights of other projects: which file, from where, at which revision, and the command that fetches it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from hub.errors import WeightsError
from hub.reference import Reference
from hub.release import file_entry
from hub.resolve import fetch_file
from pipeline.errors import InputError


@dataclass(frozen=True)
class Checkpoint:
    """A file of weights that is not this project's.

    Attributes
    ----------
    name : what it is, for a reader
    file : its name, where it comes from and in the folder of checkpoints
    license : of the weights
    repo, revision : on the Hub; without a revision the branch main, whose commit is noted when it is fetched
    url : where it lies if not on the Hub; it is then never fetched by itself
    sha256 : of the file, where it is known
    """

    name: str
    file: str
    license: str
    repo: str | None = None
    revision: str | None = None
    url: str | None = None
    sha256: str | None = None

    def command(self, folder: Path) -> str:
        """What a person types to have the file in `folder`."""
        if self.repo:
            at = f" --revision {self.revision}" if self.revision else ""
            return f"hf download {self.repo} {self.file}{at} --local-dir {folder}"
        return f"curl -L --create-dirs -o {folder / self.file} {self.url}"

    def find(self, folder: Path, fetch: bool = False) -> Path | None:
        """The file in `folder` or in the Hub's cache, with `fetch` from the Hub; None where it is in neither.

        Raises InputError where it is another file than the one whose digest is known.
        """
        path = folder / self.file
        if not path.is_file():
            path = self._cached() or (self._fetched() if fetch and self.repo else None)
        if path and self.sha256 and (found := file_entry(path)["sha256"]) != self.sha256:
            raise InputError(path, f"sha256 {found}", f"{self.sha256}, that of {self.name}; fetch it again")
        return path

    def absent(self, folder: Path) -> str:
        """What a row says whose weights are not here."""
        return f"weights absent: {self.file} ({self.license}); fetch it with `{self.command(folder)}`"

    def _cached(self) -> Path | None:
        if not self.repo:
            return None
        try:
            from huggingface_hub import try_to_load_from_cache
        except ImportError:
            return None
        found = try_to_load_from_cache(self.repo, self.file, revision=self.revision)
        return Path(found) if isinstance(found, str) else None

    def _fetched(self) -> Path:
        try:
            return fetch_file(Reference(self.repo, self.revision), self.file)[0]
        except WeightsError as error:
            raise InputError(self.name, str(error).rstrip("."), f"{self.file} of {self.repo}") from None


CHECKPOINTS = {
    "mobilesam": Checkpoint("MobileSAM", "mobile_sam.pt", "Apache-2.0", repo="dhkim2810/MobileSAM"),
    # ultralytics' file is a pickle of its classes, so it is opened only where a person has put it there
    "fastsam": Checkpoint(
        "FastSAM",
        "FastSAM-x.pt",
        "AGPL-3.0",
        url="https://github.com/ultralytics/assets/releases/download/v8.3.0/FastSAM-x.pt",
    ),
    "sam2.1-tiny": Checkpoint(
        "SAM2.1 Hiera-T",
        "sam2.1_hiera_tiny.pt",
        "Apache-2.0",
        repo="facebook/sam2.1-hiera-tiny",
        revision="36f406a75c9be63c7f429da63246273f028c6fd4",
        sha256="7402e0d864fa82708a20fbd15bc84245c2f26dff0eb43a4b5b93452deb34be69",
    ),
    "medsam2": Checkpoint("MedSAM2", "MedSAM2_latest.pt", "CC-BY-SA-4.0", repo="wanglab/MedSAM2"),
    "medical-sam2": Checkpoint(
        "Medical SAM 2", "MedSAM2_pretrain.pth", "see its page", repo="jiayuanz3/MedSAM2_pretrain"
    ),
}
