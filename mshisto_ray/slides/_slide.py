"""The interface of slide readers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from mshisto_ray.store.errors import UnitError

# Outside these bounds the mpp of a header is a mistake: 0.05 um/px is finer than light
# resolves, 50 um/px coarser than any overview level in use.
MIN_MPP, MAX_MPP = 0.05, 50.0


class SlideError(UnitError):
    """A slide, or a region of it, cannot be read; ``name`` identifies the cause."""


@dataclass(frozen=True)
class Level:
    """A native level: its size in pixels and its downsample against level 0."""

    width: int
    height: int
    downsample: float


class Slide(Protocol):
    """An open slide.

    ``levels[0]`` is the finest. ``mpp`` is that of level 0 in micrometres per pixel,
    None if the file does not record it. The slide stays usable after a failed ``read``.
    """

    levels: tuple[Level, ...]
    mpp: float | None
    vendor: str
    objective: float | None

    def read(self, level: int, x: int, y: int, width: int, height: int) -> np.ndarray:
        """RGB pixels of a region.

        Args:
            level: native level.
            x: left edge in level-0 pixels.
            y: top edge in level-0 pixels.
            width: pixels of that level.
            height: pixels of that level.

        Returns:
            uint8 [height, width, 3]; white outside the slide.

        Raises:
            SlideError: the region cannot be decoded.
        """
        ...

    def close(self) -> None:
        """Release the file."""
        ...


def checked_mpp(from_file: float | None, from_cohort: float | None) -> float:
    """The level-0 mpp to use: the cohort's if given, else the file's.

    Raises:
        SlideError: neither gives it, or it is out of bounds.
    """
    mpp = from_cohort if from_cohort is not None else from_file
    if mpp is None:
        raise SlideError(
            "NoMpp",
            "the file records no resolution, or different ones in x and y: put its "
            "micrometres per pixel into the cohort's mpp column (20x is about 0.5, 40x "
            "about 0.25)",
        )
    if not MIN_MPP <= mpp <= MAX_MPP:
        source = "the cohort" if from_cohort is not None else "the file"
        raise SlideError(
            "AbsurdMpp",
            f"{source} gives {mpp:g} micrometres per pixel, which no scanner produces "
            f"(plausible: {MIN_MPP:g} to {MAX_MPP:g}): put the right value into the "
            "cohort's mpp column",
        )
    return mpp
