"""Which code made a release or measured it."""

from __future__ import annotations

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
