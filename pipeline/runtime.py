"""onnxruntime sessions: threads, providers, precision, and errors that name the file."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path

import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as _errors

from hub import Release, WeightsError
from pipeline.errors import InputError
from pipeline.time_limit import Graph

PRECISIONS = ("int8", "int4", "fp32", "fp16")
_CPU, _CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
#: int8 is made for the CPU.
_CUDA_PRECISIONS = ("fp32", "fp16")
#: onnxruntime's exceptions have no base of their own.
ONNXRUNTIME_ERRORS = (
    _errors.Fail,
    _errors.InvalidArgument,
    _errors.InvalidGraph,
    _errors.InvalidProtobuf,
    _errors.NoModel,
    _errors.NoSuchFile,
    _errors.NotImplemented,
    _errors.RuntimeException,
)
_ONLY_ERRORS = 3
#: Linux' control group, version 2: '200000 100000' is two cores' worth of time, 'max 100000' is no limit.
_QUOTA_FILE = Path("/sys/fs/cgroup/cpu.max")


def open_graph(
    release: Release,
    name: str,
    precision: str,
    threads: int | None = None,
    *,
    inputs: Sequence[str],
    outputs: Sequence[str],
    optional_outputs: Sequence[str] = (),
) -> onnxruntime.InferenceSession:
    """Open `onnx/<precision>/<name>.onnx` of a release; `inputs` and `outputs` are the names that it has to have, and
    `optional_outputs` those that only newer releases give after them.

    fp32 and fp16 run on CUDA where onnxruntime has it; int8 is made for the CPU and always runs there.

    Raises
    ------
    InputError
        For an unknown precision, for fp16 without CUDA, for a number of threads below 1.
    hub.WeightsError
        Where the release lacks the graph, or it is damaged or not this project's.
    """
    _check_precision(precision, release)
    session = open_session(release.file(f"onnx/{precision}/{name}.onnx"), threads, cuda=precision in _CUDA_PRECISIONS)
    found = [given.name for given in session.get_inputs()], [given.name for given in session.get_outputs()]
    if found[0] != list(inputs) or found[1] not in (list(outputs), [*outputs, *optional_outputs]):
        raise WeightsError(
            f"{release.folder}: {name}.onnx takes {', '.join(found[0])} and gives {', '.join(found[1])}; expected"
            f" {', '.join(inputs)} and {', '.join(outputs)}. These are not this version's graphs."
        )
    if precision == "fp16" and session.get_providers()[0] != _CUDA:
        raise _no_half()
    return session


def open_session(path: Path, threads: int | None = None, *, cuda: bool = False) -> onnxruntime.InferenceSession:
    """Open one graph. `threads` is the number of CPU threads, by default all cores that this process may use.

    Raises WeightsError where it is no graph that onnxruntime can run.
    """
    if threads is not None and threads < 1:
        raise InputError("threads", str(threads), "1 or more")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or available_cores()
    options.log_severity_level = _ONLY_ERRORS
    # Idle threads of one network would otherwise go on spinning while the next one computes.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    providers = [_CUDA, _CPU] if cuda and has_cuda() else [_CPU]
    try:
        return Graph(path, options, providers=providers)
    except ONNXRUNTIME_ERRORS as error:
        reason = " ".join(str(error).split())[:200]
        raise WeightsError(f"{path}: onnxruntime can't open this graph ({reason}).") from error


def has_cuda() -> bool:
    """Whether onnxruntime can use a graphics card here, which fp16 needs."""
    return _CUDA in onnxruntime.get_available_providers()


def runs_on_cuda(precision: str) -> bool:
    """Whether graphs of this precision run on a graphics card here."""
    return precision in _CUDA_PRECISIONS and has_cuda()


def available_cores(quota_file: Path = _QUOTA_FILE) -> int:
    """Cores that this process may use: its affinity, and the CPU quota of its container where there is one."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = quota_file.read_text(encoding="ascii").split()
    except (OSError, ValueError):
        return cores
    return cores if quota == "max" else max(1, min(cores, math.ceil(int(quota) / int(period))))


def _check_precision(precision: str, release: Release) -> None:
    if precision not in PRECISIONS:
        raise InputError("precision", repr(precision), ", ".join(PRECISIONS))
    if precision == "fp16" and not has_cuda():
        raise _no_half()
    if precision not in release.precisions:
        raise InputError("precision", f"these weights hold no {precision}", ", ".join(release.precisions))


def _no_half() -> InputError:
    problem = "fp16 computes in half precision on CUDA, which onnxruntime does not have here"
    return InputError("precision", problem, "int8 or fp32")
