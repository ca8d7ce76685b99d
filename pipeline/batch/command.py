"""`python -m pipeline batch`: its options, and what must be there before it starts."""

from __future__ import annotations

import argparse
import importlib.util
from pathlib import Path

from pipeline import options
from pipeline.errors import InputError
from pipeline.result_files import unwritable

_ONE_WAY = "a folder, a pattern, a file; a CSV or Parquet table of paths; or a URL of any of them, such as s3://"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("inputs", nargs="+", metavar="INPUT", help=_ONE_WAY)
    add("--out", required=True, type=Path, metavar="DIR", help="folder for results, tables and report; what is "
        "answered there is not done again")  # fmt: skip
    add("--engine", choices=("local", "ray"), default="local", help="processes of this machine (default), or Ray")
    add("--address", metavar="HOST:PORT", help="of a Ray cluster (default: one of this machine's own)")
    add("--workers", type=options.count, metavar="N", help="processes, each with a segmenter (default: one a core)")
    add("--threads", type=options.count, default=1, metavar="N", help="CPU threads a worker (default: 1)")
    add("--time-limit", type=options.seconds, default=600.0, metavar="S", help="seconds an input may take "
        "(default: 600)")  # fmt: skip
    add("--retry-failures", action="store_true", help="try again what failed in an earlier run")
    add("--precision", choices=("int8", "int4", "fp32", "fp16"), default="int8", help="of the networks (default: int8)")
    add("--weights", default="embedded", metavar="RELEASE", help="embedded (default), a folder, user/repo[@revision]")
    add("--classes", type=options.class_names, metavar="A,B", help="look for these classes only")
    add("--min-score", type=options.score, metavar="S", help="least score, 0..1 (default: the release's own)")
    add("--axis", type=options.axis, metavar="A", help="as of `segment`")
    add("--window", type=options.window, metavar="CENTER,WIDTH", help="as of `segment`")
    add("--quiet", action="store_true", help="say nothing of what went well")


def run(arguments: argparse.Namespace) -> int:
    """Run the batch of the parsed command line; returns 2 if any input failed, else 0.

    Raises
    ------
    InputError, WeightsError
        For what concerns all inputs: a package that is missing, the folder of the results, the weights, a class.
    """
    if arguments.address and arguments.engine != "ray":
        raise InputError("--address", "without --engine ray", "it with Ray alone")
    _check_packages(["pyarrow", "fsspec", *(["ray"] if arguments.engine == "ray" else [])])
    from pipeline.batch.archive import segment_archive
    from pipeline.batch.run_record import alone_in

    try:
        arguments.out.mkdir(parents=True, exist_ok=True)
        with alone_in(arguments.out):
            return segment_archive(arguments)
    except OSError as error:
        # what can't be written is said in a sentence; anything else is a fault of the program
        if not str(error.filename).startswith(str(arguments.out)):
            raise
        raise unwritable(arguments.out, error) from error


def _check_packages(names: list[str]) -> None:
    for name in names:
        if importlib.util.find_spec(name) is None:
            problem = f"the package {name!r} is not installed"
            command = "Install it with `pip install -r requirements-batch.txt`."
            raise InputError("python -m pipeline batch", problem, f"what requirements-batch.txt lists. {command}")
