"""The files of a saved head, of whatever task."""

from __future__ import annotations

import hashlib
from pathlib import Path

_MLFLOW = "MLmodel"


def head_digest(path: Path) -> str:
    """Digest of a head directory's files, without the one that MLflow adds."""
    digest = hashlib.blake2b(digest_size=16)
    for file in sorted(file for file in path.iterdir() if file.name != _MLFLOW):
        digest.update(file.name.encode() + file.read_bytes())
    return digest.hexdigest()
