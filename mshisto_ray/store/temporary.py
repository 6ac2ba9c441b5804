"""Names of files in the making."""

from __future__ import annotations

import uuid
from pathlib import Path


def temporary_beside(path: Path) -> Path:
    """A hidden name in the folder of ``path`` that no other process uses.

    Not even one of another machine or container: their process ids are small numbers
    that recur.
    """
    return path.with_name(f".{path.name}.{uuid.uuid4().hex[:12]}.tmp")
