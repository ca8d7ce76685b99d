"""Which code and which machine made a release or measured it."""

from __future__ import annotations

import platform
import subprocess
from pathlib import Path


def git_revision() -> str:
    """The commit of the code, with '+changes' where the files differ from it; 'unknown' outside a repository."""
    try:
        where = Path(__file__).parent
        said = [
            subprocess.run(["git", *command], cwd=where, check=True, capture_output=True, text=True).stdout.strip()
            for command in (("rev-parse", "HEAD"), ("status", "--porcelain", "--untracked-files=no"))
        ]
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return said[0] + ("+changes" if said[1] else "")


def machine_name() -> str:
    """The number and the model of the processor's cores."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{len(names)} cores of {names[0]}" if names else platform.processor() or platform.machine()
