"""What the page keeps of its last images: pixels and regions, so that a correction costs one run of the decoder."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hub import Release, resolve
from page.turns import Turns
from pipeline import AutoSegmenter
from pipeline.correction import correct_all
from pipeline.edits import Edit
from pipeline.errors import InputError
from pipeline.results import Segmentation
from pipeline.scan import Scan, read_scan
from pipeline.segment_files import segment_file
from pipeline.time_limit import time_limit

#: Images kept at the same time, and the bytes of pixels beyond which only the last one is.
_KEPT_SCANS, _KEPT_BYTES, _KEPT_DIGESTS = 8, 256_000_000, 64
#: Answers kept, each undo step of an image is one, and the bytes of masks beyond which only the last one is.
_KEPT_ANSWERS, _KEPT_MASK_BYTES = 128, 32_000_000


@dataclass(frozen=True)
class Question:
    """An upload and how to look at it.

    Attributes
    ----------
    path : the upload's copy on the server
    classes : names of the classes to look for; None for all
    min_score : 0..1; None takes the release's own
    """

    path: Path
    precision: str
    classes: tuple[str, ...] | None = None
    min_score: float | None = None


class Answers:
    """Asks the networks of a release; each precision's are loaded at their first use.

    Every method raises InputError, whose subject is the upload's name alone, and hub.WeightsError.

    Parameters
    ----------
    seconds
        The time that the networks may take for one answer.
    """

    def __init__(self, weights: str, seconds: float):
        self.weights, self.seconds = weights, seconds
        self.release: Release = resolve(weights)
        self.turns = Turns()
        self._segmenters: dict[str, AutoSegmenter] = {}
        self._scans: OrderedDict[bytes | str, Scan] = OrderedDict()
        self._digests: OrderedDict[tuple, bytes] = OrderedDict()
        self._kept: OrderedDict[tuple, Segmentation] = OrderedDict()
        self._lock = threading.RLock()

    @property
    def class_names(self) -> dict[int, str]:
        """Class id -> name."""
        return {entry["id"]: entry["name"] for entry in self.release.config["classes"]}

    def question(self, image: str, precision: str, classes: list[str] | None, min_score: float | None) -> Question:
        """What the page's controls stand at.

        All classes, and the score that the slider starts at, are the release's own way: its thresholds class by class.
        """
        everything = classes is None or set(classes) == set(self.class_names.values())
        own = min_score is None or min_score == self.own_score
        return Question(Path(image), precision, None if everything else tuple(classes), None if own else min_score)

    @property
    def own_score(self) -> float:
        return self.release.config["detector"]["score_threshold"]

    def weights_bytes(self, precision: str) -> int:
        """Bytes of a precision's graphs."""
        return self.release.manifest["precisions"][precision]["bytes"]

    def segmenter(self, precision: str) -> AutoSegmenter:
        with self._lock:
            if precision not in self._segmenters:
                self._segmenters[precision] = AutoSegmenter.from_release(self.weights, precision)
            return self._segmenters[precision]

    def ask(self, question: Question) -> tuple[Scan, Segmentation]:
        """Read and segment, whatever is kept: its timings are of now."""
        segmenter = self.segmenter(question.precision)
        with self.turns.mine(), plain_names(), time_limit(self.seconds):
            scan, found = segment_file(segmenter, question.path, classes=question.classes, min_score=question.min_score)
        self._keep_scan(question.path, scan)
        self._keep((*self._key(question), ()), found)
        return scan, found

    def ask_anew(self, question: Question) -> tuple[Scan, Segmentation]:
        """The same without a kept embedding, so that the whole of it is measured."""
        self.segmenter(question.precision).forget_embeddings()
        return self.ask(question)

    def corrected(self, question: Question, edits: tuple[Edit, ...] = ()) -> tuple[Scan, Segmentation]:
        """The regions after `edits`, from the longest beginning of them that is kept."""
        key, known = self._key(question), len(edits)
        with self._lock:
            while known >= 0 and (*key, edits[:known]) not in self._kept:
                known -= 1
            found = self._kept.get((*key, edits[:known])) if known >= 0 else None
        if found is None:
            found, known = self.ask(question)[1], 0
        scan = self._scan(question.path)
        segmenter = self.segmenter(question.precision)
        with self.turns.mine(), plain_names(), time_limit(self.seconds):
            found = correct_all(segmenter, scan, found, edits[known:])
        self._keep((*key, edits), found)
        return scan, found

    def _scan(self, path: Path) -> Scan:
        with self._lock:
            kept = self._scans.get(self._content(path))
        if kept is None:
            with plain_names():
                kept = read_scan(path)
            self._keep_scan(path, kept)
        # the same upload may lie elsewhere meanwhile
        return replace(kept, path=path)

    def _key(self, question: Question) -> tuple:
        return self._content(question.path), question.precision, question.classes, question.min_score

    def _content(self, path: Path) -> bytes | str:
        """What tells one image from another: a client uploads the same one with each of its requests."""
        try:
            about = path.stat()
            state = str(path), about.st_mtime_ns, about.st_size
            with self._lock:
                digest = self._digests.get(state)
            if digest is None:
                with path.open("rb") as stream:
                    digest = hashlib.file_digest(stream, "sha256").digest()
        except OSError:  # reading it tells what is wrong
            return str(path)
        with self._lock:
            self._digests[state] = digest
            _drop_oldest(self._digests, _KEPT_DIGESTS, _KEPT_BYTES, len)
        return digest

    def _keep_scan(self, path: Path, scan: Scan) -> None:
        with self._lock:
            self._scans[self._content(path)] = scan
            self._scans.move_to_end(self._content(path))
            _drop_oldest(self._scans, _KEPT_SCANS, _KEPT_BYTES, lambda scan: scan.pixels.nbytes)

    def _keep(self, key: tuple, found: Segmentation) -> None:
        with self._lock:
            self._kept[key] = found
            self._kept.move_to_end(key)
            _drop_oldest(self._kept, _KEPT_ANSWERS, _KEPT_MASK_BYTES, lambda found: found.mask_logits.nbytes)


def _drop_oldest(kept: OrderedDict, count: int, most_bytes: int, size: Callable[[Any], int]) -> None:
    """Until at most `count` are left, of at most `most_bytes` together; the last one always stays."""
    held = sum(map(size, kept.values()))
    while len(kept) > 1 and (len(kept) > count or held > most_bytes):
        held -= size(kept.popitem(last=False)[1])


class plain_names:
    """Errors name the upload, not where it lies on the server."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind, error, trace) -> None:
        if isinstance(error, InputError):
            raise InputError(Path(error.subject).name, error.problem, error.expected) from error
