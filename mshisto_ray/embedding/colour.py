"""Colour modes: the form in which an encoder gets a tile."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np

from mshisto_ray.embedding.stains import (
    Stain,
    none,
)

Colour = Literal["rgb", "gray"]


@dataclass(frozen=True)
class Look:
    """The encoder's input: tiles with one stain normalisation, in each colour mode."""

    colours: tuple[Colour, ...]
    stain: Stain

    def __call__(self, tiles: np.ndarray) -> Iterator[np.ndarray]:
        """Tiles uint8 [B, H, W, 3] in each colour mode, one after another."""
        stained = self.stain(tiles)
        for colour in self.colours:
            yield in_colour(stained, colour)


PLAIN = Look(("rgb",), none.build())


def in_colour(tiles: np.ndarray, colour: Colour) -> np.ndarray:
    """Tiles in a colour mode; uint8 [B, H, W, 3] in and out.

    ``gray`` is the luma of ITU-R BT.601 (0.299 R + 0.587 G + 0.114 B) in all three
    channels: texture and density without the stain's hue.
    """
    if colour == "rgb":
        return tiles
    num, height, width, _ = tiles.shape
    lines = np.ascontiguousarray(tiles).reshape(num * height, width, 3)
    luma = cv2.cvtColor(lines, cv2.COLOR_RGB2GRAY)
    return np.repeat(luma[..., None], 3, axis=2).reshape(tiles.shape)
