"""What an encoder is trained on, in one line."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mshisto_ray.training.held_out import HeldOutConfig, split_patients
from mshisto_ray.training.tile_index import UNKNOWN, TileIndex


def summarise(
    index: TileIndex, classes: Sequence[str], held_out: HeldOutConfig, seed: int
) -> str:
    """Return the slides, patients, classes of slides, and how many are held out.

    Args:
        index: of all tiles; slides without a tile do not count.
        classes: names, in the order of the index's labels.
        held_out: the share of patients held out.
        seed: that draws them.
    """
    tiles = np.arange(len(index))
    slides = np.unique(index.slide(tiles))
    labels = index.label[slides]
    counts = np.bincount(labels[labels != UNKNOWN], minlength=len(classes))
    pairs = zip(classes, counts, strict=True)
    named = ", ".join(f"{name!r} {count}" for name, count in pairs) or "no classes"
    apart = split_patients(index, held_out.share, seed)[1]
    num_apart = len(np.unique(index.patient[index.slide(apart)]))
    return (
        f"{len(slides)} slides, {len(np.unique(index.patient[slides]))} patients; "
        f"{named}; {num_apart} patients held out (validation.share="
        f"{held_out.share:g}, seed={seed})"
    )
