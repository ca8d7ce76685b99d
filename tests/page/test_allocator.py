"""Free memory goes back to the system, also what lies below memory that is still in use."""

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
kept = []
def fill():
    blocks = [b"x" * 100_000 for _ in range(250)]
    kept.append(blocks[::50])
threads = [threading.Thread(target=fill) for _ in range(16)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
time.sleep(1.5)
print(json.dumps(psutil.Process().memory_info().rss / 1e6))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's allocator")
def test_free_memory_goes_back():
    held = {}
    for way in ("as it is", "small"):
        words = [sys.executable, "-c", _PROGRAM, way]
        done = subprocess.run(words, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=True)
        held[way] = json.loads(done.stdout)
    assert held["small"] < held["as it is"] - 50
