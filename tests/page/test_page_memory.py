"""The page's memory: what is free goes back to the system, and what is kept of visitors is bounded."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

_PROGRAM = """
import json, sys, threading, time, psutil
from page import allocator
allocator._EVERY_SECONDS = 0.2
if sys.argv[1] == "small":
    allocator.keep_small()
kept, full = [], threading.Barrier(16)
def fill():
    blocks = [b"x" * 100_000 for _ in range(250)]
    kept.append(blocks[::50])
    full.wait()  # all hold theirs at the same time, each in a heap of its own
threads = [threading.Thread(target=fill) for _ in range(16)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
time.sleep(1.5)
print(json.dumps(psutil.Process().memory_info().rss / 1e6))
"""


#: A page as it is launched, and a thousand visitors.
_VISITORS = """
import json, psutil, app
from gradio.state_holder import StateHolder
page, holder, process = app.build_page(), StateHolder(), psutil.Process()
page.state_session_capacity = app._LAUNCH["state_session_capacity"]
holder.set_blocks(page)
before = process.memory_info().rss
for number in range(1000):
    holder[f"visitor {number}"]
print(json.dumps((process.memory_info().rss - before) / 1e6))
"""


def megabytes(program: str, *words: str) -> float:
    """What a program of its own prints at last."""
    command = [sys.executable, "-c", program, *words]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's allocator")
def test_free_memory_goes_back():
    assert megabytes(_PROGRAM, "small") < megabytes(_PROGRAM, "as it is") - 50


def test_visitors_are_forgotten_before_they_fill_the_memory():
    assert megabytes(_VISITORS) < 60
