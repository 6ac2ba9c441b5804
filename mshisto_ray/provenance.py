"""The code that made a result: package versions, and the commit of this package."""

from __future__ import annotations

import functools
import platform
import subprocess
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGE = "mshisto-ray"


def versions(packages: Iterable[str]) -> dict[str, str]:
    """Versions of Python and of each package; ``absent`` if not installed."""
    found = {"python": platform.python_version()}
    for name in packages:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "absent"
    return found


@functools.cache
def commit() -> str | None:
    """Commit of the git checkout that the package runs from, else None.

    Ends in ``-dirty`` where files differ from it.
    """
    root = Path(__file__).parents[1]
    if not (root / ".git").exists():
        return None
    command = ["git", "-C", str(root), "describe", "--always", "--dirty"]
    command += ["--abbrev=40", "--exclude=*"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return found.stdout.strip()
