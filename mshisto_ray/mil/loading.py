"""Loading a head of slides, whichever job made it."""

from __future__ import annotations

import json
from pathlib import Path

from mshisto_ray.mil.head import Head, load_head
from mshisto_ray.mil.tile_head import load_tile_head
from mshisto_ray.tile_classification.head.files import KIND


def open_head(path: Path) -> Head:
    """A head of ``train``, ``sweep`` or ``tile_head``.

    Raises:
        InputError: not a head, or one of another version.
    """
    about = path / "model.json"
    if about.is_file() and json.loads(about.read_text()).get("kind") == KIND:
        return load_tile_head(path)
    return load_head(path)
