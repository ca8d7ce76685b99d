"""A limit to how long the networks may compute, which really stops them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import onnxruntime

from pipeline.errors import InputError

#: Given to every run of a graph in this thread; onnxruntime looks at its `terminate` between two operators.
_RUN: ContextVar[onnxruntime.RunOptions | None] = ContextVar("run", default=None)


@contextmanager
def time_limit(seconds: float, subject: object = "image") -> Iterator[None]:
    """Stop the networks that run inside of this block, in this thread, after `seconds`; the error names `subject`.

    Raises
    ------
    InputError
        Where the time was up before the networks were done.
    """
    run = onnxruntime.RunOptions()
    run.log_severity_level = 4  # who set the limit hears of it by the error; onnxruntime would print it, too
    alarm = threading.Timer(seconds, setattr, (run, "terminate", True))
    alarm.daemon = True
    alarm.start()
    token = _RUN.set(run)
    try:
        yield
    except Exception as error:
        if not run.terminate or isinstance(error, InputError):
            raise
        raise InputError(subject, f"took longer than {seconds:g} s", "a smaller image, or another try later") from None
    finally:
        _RUN.reset(token)
        alarm.cancel()


class Graph(onnxruntime.InferenceSession):
    """An inference session that keeps to the `time_limit` around it."""

    def run(self, output_names, input_feed, run_options=None):
        return super().run(output_names, input_feed, run_options or _RUN.get())
