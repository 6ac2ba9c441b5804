"""Sharpness of a slide's tiles against its own copy out of focus, and its cost."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated

import cv2
import numpy as np
from pydantic import Field

from mshisto_ray.config import InputError, InputPath
from mshisto_ray.jobs.benchmarks._benchmark import (
    Benchmark,
    Measure,
    interleaved,
)
from mshisto_ray.jobs.benchmarks._slides import make_slides
from mshisto_ray.learning.metrics import auroc
from mshisto_ray.slides import (
    Slide,
    SlideError,
    open_slide,
    read_nearest,
)
from mshisto_ray.store.cohort import CohortSlide
from mshisto_ray.tiling.focus import measure_focus
from mshisto_ray.tiling.recipe import TilingRecipe
from mshisto_ray.tiling.slide import TiledSlide, tile_slide

_RECIPE = TilingRecipe()


def build(
    *,
    slide: InputPath | None = None,
    mpp: Annotated[float | None, Field(gt=0)] = None,
    blur_um: tuple[Annotated[float, Field(gt=0)], ...] = (1.0, 2.0, 4.0),
    repeats: Annotated[int, Field(ge=1)] = 5,
) -> Benchmark:
    """How well `focus` separates tiles from their defocused copies, at every scale.

    Args:
        slide: measure this slide instead of the one made.
        mpp: of that slide, if its file does not give it.
        blur_um: standard deviations of the Gaussian, in micrometres.
        repeats: times that tiling is measured with and without; medians count.
    """

    def measure(folder: Path) -> dict[str, Measure]:
        path = slide or make_slides(folder, ("20x_256",))[0].path
        row = CohortSlide(path.stem, path.stem, path, mpp, None, {})
        try:
            tiled = tile_slide(row, _RECIPE)  # the first run costs more
        except SlideError as error:
            raise InputError(f"benchmark.slide: {path}: {error}") from None
        num = sum(len(plan.row) for plan in tiled.plans)
        cost = interleaved(
            {
                "without": lambda: tile_slide(row, _RECIPE.without_focus()),
                "with": lambda: tile_slide(row, _RECIPE),
            },
            repeats,
        )
        more = cost["with"] - cost["without"]
        share = float(np.median(more / cost["with"]))
        found = {
            "focus.tiles": Measure(num, "tiles"),
            "focus.cost": Measure(1e3 * float(np.median(more)) / num, "CPU ms/tile"),
            "focus.share": Measure(share, "of tiling"),
        }
        for um in blur_um:
            found |= _separation(tiled, path, um)
        return found

    return measure


def _separation(tiled: TiledSlide, path: Path, um: float) -> dict[str, Measure]:
    """AUROC of sharp against defocused tiles, by scale."""
    opened = open_slide(path)
    blurred = _Defocused(opened, um / tiled.record["mpp"])
    scores = measure_focus(
        blurred, tiled.plans, tiled.tissue, tiled.thumbnail.span, _RECIPE.tile_px,
        _RECIPE.focus_mpp,
    )  # fmt: skip
    opened.close()
    found = {}
    for plan, sharp, soft in zip(tiled.plans, tiled.focus, scores, strict=True):
        known = plan.own & ~np.isnan(sharp)
        if not known.any():
            raise InputError(
                f"benchmark.slide: {path} has no native level near "
                f"{_RECIPE.focus_mpp:g} um/px, so sharpness is not measured"
            )
        value = np.concatenate([soft[known], sharp[known]]).astype(float)
        truth = np.repeat([0, 1], known.sum())
        area = auroc(np.stack([-value, value], 1), truth)
        name = f"focus.blur_{um:g}um.at_{plan.reading.mpp:g}"
        found[name] = Measure(area, "AUROC")
    return found


class _Defocused:
    """A slide blurred by a Gaussian of ``sigma`` level-0 pixels."""

    def __init__(self, slide: Slide, sigma: float):
        self._slide, self._sigma = slide, sigma
        self.levels, self.mpp = slide.levels, slide.mpp
        self.vendor, self.objective = slide.vendor, slide.objective
        self.close = slide.close

    def read(self, level: int, x: int, y: int, width: int, height: int) -> np.ndarray:
        """Read as ``measure_focus`` does; blurred with the pixels around the region."""
        down = self.levels[level].downsample
        sigma = self._sigma / down
        more = math.ceil(4 * sigma)
        left, top = round(x - more * down), round(y - more * down)
        size = (width + 2 * more, height + 2 * more)
        pixels = read_nearest(self._slide, level, left, top, *size)
        return cv2.GaussianBlur(pixels, (0, 0), sigma)[more:-more, more:-more]
