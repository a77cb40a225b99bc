"""Which code made a figure or a table."""

from __future__ import annotations

import subprocess
from functools import cache
from pathlib import Path

from MRSynthLib import __version__


@cache
def commit() -> str:
    """The git commit of this code, "+" behind it where tracked files differ from it; outside a clone, the version."""
    here = Path(__file__).parent
    try:
        head = _git("rev-parse", "--short=10", "HEAD", folder=here)
        changed = _git("status", "--porcelain", "--untracked-files=no", folder=here)
    except (OSError, subprocess.SubprocessError):
        return f"version {__version__}"
    return f"commit {head}{'+' if changed else ''}"


def _git(*arguments: str, folder: Path) -> str:
    done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, check=True, timeout=30)
    return done.stdout.strip()
