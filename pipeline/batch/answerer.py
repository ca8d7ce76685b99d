"""One loaded segmenter that answers inputs, each once: what a worker does, on this machine or another."""

from __future__ import annotations

import faulthandler
import os
import threading
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePath

from hub import WeightsError, resolve
from pipeline.auto_segmenter import AutoSegmenter
from pipeline.batch.answers import Unwritable, is_answered, new_results, write_failure
from pipeline.batch.content import content_hash, local_copy
from pipeline.batch.listing import Input
from pipeline.errors import InputError
from pipeline.inputs import is_stack
from pipeline.segment_files import image_to_files, stack_to_files
from pipeline.time_limit import time_limit

#: How long after its time an input that is not in the networks ends its process, seconds: first in an orderly way, and
#: where even that is held up, by force.
_GRACE = 10


@dataclass(frozen=True)
class Job:
    """What is the same for all inputs of a batch. All of it can be handed to another process or machine.

    Attributes
    ----------
    out : folder of the results, the same for all workers
    weights, precision, threads : as `AutoSegmenter.from_release` takes them
    weights_sha256 : of the release that is meant: another machine may hold another under the same name
    seconds : that one input may take
    session : names this run
    scratch : folder for what is fetched
    """

    out: Path
    weights: str
    weights_sha256: str
    precision: str
    threads: int
    seconds: float
    session: str
    scratch: Path
    classes: Sequence[str] | None = None
    min_score: float | None = None
    axis: int | None = None
    window: tuple[float, float] | None = None


@dataclass(frozen=True)
class Work:
    """An input to answer, and the sha256 of its content."""

    sha256: str
    input: Input


class Answerer:
    """Answers inputs of a job: afterwards each has results or a failure under `job.out`.

    Raises
    ------
    InputError, WeightsError
        When made, for what concerns all inputs: the weights, a class, the precision.
    """

    def __init__(self, job: Job):
        release = resolve(job.weights)
        if release.sha256 != job.weights_sha256:
            raise WeightsError(f"{release.folder}: other weights than the batch was started with; expected the same.")
        if not job.out.is_dir():
            raise InputError(job.out, "is not there on every machine", "a folder that all of them share, as --out")
        self.job = job
        self.segmenter = AutoSegmenter.from_release(job.weights, job.precision, job.threads)
        self.segmenter.class_ids(job.classes)
        self._nowhere = os.open(os.devnull, os.O_WRONLY)  # open as long as the process

    def __call__(self, work: Work) -> None:
        """Answer an input, unless it is answered.

        Raises
        ------
        Unwritable
            Where nothing can be written to the folder of the results.
        """
        job, name = self.job, work.input.name
        if is_answered(job.out, work.sha256):
            return
        try:
            with new_results(job.out, work.sha256) as part, self._limited(work):
                self._segment(work, part)
        except Unwritable:
            raise
        except InputError as error:
            write_failure(job.out, work.sha256, name, error)
        except MemoryError:
            problem = "needs more memory than there is"
            write_failure(job.out, work.sha256, name, InputError(name, problem, "a smaller one, or a larger machine"))
        except Exception as error:  # noqa: BLE001  an archive must not stop at one input; the sentence says where it was
            write_failure(job.out, work.sha256, name, _fault(name, error))

    def _segment(self, work: Work, part: Path) -> None:
        job, found = self.job, work.input
        with local_copy(found, job.scratch) as (path, files):
            if content_hash(files) != work.sha256:
                raise InputError(found.name, "changed while the batch ran", "files that stay as they are; run it again")
            options = {"file": found.name, "classes": job.classes, "min_score": job.min_score}
            try:
                if is_stack(path):
                    options |= {"axis": job.axis, "window": job.window}
                    stack_to_files(self.segmenter, path, part, PurePath(found.stem), **options)
                else:
                    image_to_files(self.segmenter, path, part, PurePath(found.stem), **options)
            except InputError as error:
                if error.subject == str(part):
                    raise Unwritable(job.out, error.problem, error.expected) from error
                subject = error.subject.replace(str(path), found.name)
                raise InputError(subject, error.problem, error.expected) from error

    @contextmanager
    def _limited(self, work: Work) -> Iterator[None]:
        """Stop what takes too long: the networks when the time is up, anything else a little later with the process."""
        seconds = self.job.seconds
        alarm = threading.Timer(seconds + _GRACE, self._leave, [work])
        alarm.daemon = True
        alarm.start()
        faulthandler.dump_traceback_later(seconds + 2 * _GRACE, exit=True, file=self._nowhere)
        try:
            with time_limit(seconds, work.input.name):
                yield
        finally:
            alarm.cancel()
            faulthandler.cancel_dump_traceback_later()

    def _leave(self, work: Work) -> None:
        name, seconds = work.input.name, self.job.seconds
        error = InputError(name, f"took longer than {seconds:g} s", "a smaller input, or a larger --time-limit")
        write_failure(self.job.out, work.sha256, name, error)
        os._exit(1)


def _fault(name: str, error: Exception) -> InputError:
    """What went wrong where nothing should. The exception's own words may quote the input, so they are left out."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    where = f"{type(error).__name__} at {Path(frame.filename).name}:{frame.lineno}"
    return InputError(name, f"an error of the program ({where})", "an input that it can handle; please report it")
