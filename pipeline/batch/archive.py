"""List the inputs, hash them, answer those that have no answer, and write what is known: tables, report and record."""

from __future__ import annotations

import argparse
import secrets
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from time import perf_counter

from tqdm import tqdm

from hub import resolve
from hub.revision import git_revision, machine_name
from pipeline.batch.answerer import Job, Work
from pipeline.batch.answers import forget_failures, has_failed, is_answered, is_done, read_failure, remove_parts
from pipeline.batch.content import digest_of
from pipeline.batch.listing import Input, list_inputs
from pipeline.batch.local_engine import LocalEngine
from pipeline.batch.remembered import hash_with_memory
from pipeline.batch.report import write_report
from pipeline.batch.run_record import open_record, write_record
from pipeline.batch.tables import table_path, write_tables
from pipeline.errors import InputError
from pipeline.runtime import available_cores

#: An input and the sha256 of its content; in place of an input why there is none.
_Known = tuple[Input | InputError, str | None]


def segment_archive(arguments: argparse.Namespace) -> int:
    """Answer all inputs of the parsed command line; returns 2 if any failed, else 0.

    Raises
    ------
    InputError, WeightsError
        For what concerns all inputs.
    """
    out, start = arguments.out, perf_counter()
    job, settings = _job(arguments)
    record = open_record(out, settings)
    this_run = _about(arguments)
    record["runs"].append(this_run)
    write_record(out, record)
    remove_parts(out)
    shutil.rmtree(job.scratch, ignore_errors=True)  # of a run that was killed
    if arguments.retry_failures:
        forget_failures(out)
    try:
        known = _answer_all(arguments, job, this_run)
    finally:
        shutil.rmtree(job.scratch, ignore_errors=True)
    remove_parts(out)  # of workers that died
    with _timed(this_run, "tables"):
        rows = write_tables(out, known)
        write_report(out, settings)
    this_run["seconds"]["all"] = round(perf_counter() - start, 3)
    this_run["finished"] = _now()
    record["tables"] = {
        name: {"rows": count, "sha256": digest_of(table_path(out, name))} for name, count in rows.items()
    }
    write_record(out, record)
    if not arguments.quiet:
        done = f"{rows['inputs'] - rows['failures']} segmented with {rows['detections']} regions"
        now = f"{this_run['answered']} of them now"
        print(f"{rows['inputs']} inputs: {done}, {rows['failures']} failed; {now}. See {out / 'report.html'}")
    return 2 if rows["failures"] else 0


def _answer_all(arguments: argparse.Namespace, job: Job, this_run: dict) -> list[_Known]:
    """Hash the inputs, and answer each content that has no answer once."""
    with _timed(this_run, "listing"):
        listed = list_inputs(arguments.inputs, without=job.out)
    with _engine(arguments, job) as engine:
        with _timed(this_run, "hashing"):
            known = list(_with_hashes(job.out, listed, engine))
        for found, _ in known:
            if isinstance(found, InputError):
                _say(found)
        works = {sha256: Work(sha256, found) for found, sha256 in reversed(known) if sha256}
        # of inputs with the same content the first gives the files their name
        works = [work for work in reversed(works.values()) if not is_answered(job.out, work.sha256)]
        start = perf_counter()
        with tqdm(total=len(works), unit="input", disable=not sys.stderr.isatty()) as bar:
            for work in engine.answer(works):
                bar.update()
                this_run["answered"] += 1
                if has_failed(job.out, work.sha256) and not is_done(job.out, work.sha256):
                    _say(read_failure(job.out, work.sha256)["sentence"])
        end = perf_counter()
    ready = engine.ready_at or end
    this_run["workers"] = engine.count
    this_run["seconds"] |= {"starting": round(ready - start, 3), "answering": round(end - ready, 3)}
    return known


def _with_hashes(out: Path, listed: list[Input | InputError], engine: LocalEngine) -> Iterator[_Known]:
    inputs = [found for found in listed if isinstance(found, Input)]
    answers = []
    with tqdm(total=len(inputs), unit="hash", leave=False, disable=not sys.stderr.isatty()) as bar:
        for answer in hash_with_memory(out, inputs, engine.hash):
            answers.append(answer)
            bar.update()
    hashes = iter(answers)
    for found in listed:
        answer = found if isinstance(found, InputError) else next(hashes)
        yield (answer, None) if isinstance(answer, InputError) else (found, answer)


def _engine(arguments: argparse.Namespace, job: Job) -> LocalEngine:
    """The engine that was chosen; Ray's has the same methods."""
    if arguments.engine == "ray":
        from pipeline.batch.ray_engine import RayEngine

        return RayEngine(job, arguments.workers, arguments.address)
    return LocalEngine(job, arguments.workers or max(1, available_cores() // job.threads))


def _job(arguments: argparse.Namespace) -> tuple[Job, dict]:
    """What the workers need to know, and the part of it that results depend on."""
    release = resolve(arguments.weights)
    chosen = {name: getattr(arguments, name) for name in ("precision", "classes", "min_score", "axis", "window")}
    name = sha256(str(arguments.out.resolve()).encode("utf-8", "surrogateescape")).hexdigest()[:16]
    job = Job(
        out=arguments.out.absolute(),
        weights=_anywhere(arguments.weights),
        weights_sha256=release.sha256,
        threads=arguments.threads,
        seconds=arguments.time_limit,
        session=secrets.token_hex(8),
        scratch=Path(tempfile.gettempdir(), f"automedseg-batch-{name}"),
        **chosen,
    )
    chosen["window"] = chosen["window"] and list(chosen["window"])
    return job, {"weights": {"version": release.version, "sha256": release.sha256}, **chosen}


def _anywhere(weights: str) -> str:
    """A folder of weights as a worker in another folder finds it."""
    return weights if weights == "embedded" or not Path(weights).is_dir() else str(Path(weights).absolute())


def _about(arguments: argparse.Namespace) -> dict:
    return {
        "started": _now(),
        "finished": None,
        "inputs": [word.encode("utf-8", "backslashreplace").decode() for word in arguments.inputs],
        "engine": arguments.engine,
        "workers": arguments.workers,
        "threads": arguments.threads,
        "machine": machine_name(),
        "revision": git_revision(),
        "answered": 0,
        "seconds": {},
    }


@contextmanager
def _timed(this_run: dict, stage: str) -> Iterator[None]:
    start = perf_counter()
    yield
    this_run["seconds"][stage] = round(perf_counter() - start, 3)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _say(problem: object) -> None:
    """One line on stderr that does not tear the progress bar."""
    tqdm.write(" ".join(str(problem).splitlines()), file=sys.stderr)
