"""Reading tiles: every way to read against a plain OpenSlide and PIL loop."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated

import cv2
import numpy as np
import openslide
from PIL import Image
from pydantic import Field

from mshisto_ray.config import InputPath
from mshisto_ray.jobs.benchmarks._benchmark import (
    Benchmark,
    Measure,
    forget_peak_memory,
    interleaved,
    peak_memory_mib,
)
from mshisto_ray.jobs.benchmarks._by_hand import ByHand
from mshisto_ray.jobs.benchmarks._slides import MadeSlide, make_slides
from mshisto_ray.jobs.benchmarks._tissue_tiles import (
    SCALES,
    TILE_PX,
    Tiles,
    given_slide,
    tiles_of,
)
from mshisto_ray.slides import open_slide
from mshisto_ray.tiling import area_average
from mshisto_ray.tiling.cell import CellReader
from mshisto_ray.tiling.pixels import read_tile
from mshisto_ray.tiling.reader import Pixels, open_fastest

_MOST_LINKED, _MOST_DECODING = 1.25, 2.0
_COMPARED = 64


def build(
    *,
    slide: InputPath | None = None,
    mpp: Annotated[float | None, Field(gt=0)] = None,
    cells: Annotated[int, Field(ge=1)] = 36,
    repeats: Annotated[int, Field(ge=1)] = 5,
) -> Benchmark:
    """CPU time per emitted tile of 256 px at 0.5 um/px, one thread.

    ``decode`` is the least: every native tile of JPEG under the tiles decoded once, and
    nothing else; ``by_hand`` a loop over them with OpenCV's area average. Where numba
    is installed, the ways of ``.blas`` resample without it.

    Args:
        slide: measure this slide instead of the ones made.
        mpp: of that slide, if its file does not give it.
        cells: squares of 4 x 4 tiles, those with most tissue.
        repeats: times that each way is measured; medians count.
    """

    def measure(folder: Path) -> dict[str, Measure]:
        slides = [given_slide(slide, mpp)] if slide else make_slides(folder)
        forget_peak_memory()
        found: dict[str, Measure] = {}
        threads = cv2.getNumThreads()
        cv2.setNumThreads(1)  # as in a worker
        try:
            for item in slides:
                found |= _measure(item, cells, repeats)
        finally:
            cv2.setNumThreads(threads)
        return found | {"read.peak_memory": Measure(peak_memory_mib(), "MiB")}

    return measure


def _measure(slide: MadeSlide, cells: int, repeats: int) -> dict[str, Measure]:
    single, linked = SCALES[:1], SCALES
    finest = tiles_of(slide, single, "native", cells)
    num = len(finest)
    ways: dict[str, tuple[Callable[[], None], int]] = {
        "plain": (partial(_plain, slide, finest), num)
    }
    by_hand = ByHand(slide.path)
    if by_hand.is_jpeg:
        places = [(x, y) for _, x, y in finest]
        side = round(finest[0][0].extent)
        ways["decode"] = (partial(by_hand.decode_all, places, side), num)
        ways["by_hand"] = (partial(_by_hand, by_hand, places, side), num)
    modes: list[tuple[str, tuple[float, ...], Pixels]] = [
        ("exact", single, "native"),
        ("scaled", single, "scaled"),
        ("linked_native", linked, "native"),
        ("linked_finest", linked, "finest"),
    ]
    averages = {"": 0}
    if not isinstance(area_average.compiled_loop(), str):
        averages[".blas"] = sys.maxsize
    for name, scales, pixels in modes:
        tiles = tiles_of(slide, scales, pixels, cells)
        for average, loop_after in averages.items():
            way = _Read(slide, tiles, pixels, repeats, loop_after)
            ways[name + average] = (way, len(tiles))
    seconds = interleaved({name: way for name, (way, _) in ways.items()}, repeats)
    found = _costs(slide, {n: seconds[n] / ways[n][1] for n in ways})
    for name in [name for name in ways if name.startswith("linked")]:
        whole = float(np.median(seconds[name] / seconds[_finest_alone(name)]))
        found[f"read.{slide.name}.{name}.whole"] = Measure(whole, "x finest alone")
    found[f"read.{slide.name}.scaled.difference"] = Measure(
        _difference(slide, cells), "of 255, mean"
    )
    return found


def _finest_alone(linked: str) -> str:
    """The way that linked scales are compared with: averaged like them."""
    return "exact" + linked.removeprefix("linked_native").removeprefix("linked_finest")


def _costs(slide: MadeSlide, per_tile: dict[str, np.ndarray]) -> dict[str, Measure]:
    """Cost of each way, and its ratios to the others, from seconds a tile [repeats]."""
    plain = 1e3 * float(np.median(per_tile["plain"]))
    found = {f"read.{slide.name}.plain": Measure(plain, "CPU ms/tile")}
    for name, values in per_tile.items():
        if name == "plain":
            continue
        cost, key = 1e3 * float(np.median(values)), f"read.{slide.name}.{name}"
        found[key] = Measure(cost, "CPU ms/tile", plain)
        if not name.startswith("linked"):
            ratio = float(np.median(per_tile["plain"] / values))
            target = slide.targets.get(name)
            found[f"{key}.gain"] = Measure(ratio, "x less CPU", plain, target)
        else:
            each = float(np.median(values / per_tile[_finest_alone(name)]))
            found[f"{key}.per_tile"] = Measure(
                each, "x finest alone", None, _MOST_LINKED, "at most"
            )
        if name.startswith("exact") and "decode" in per_tile:
            limit = float(np.median(values / per_tile["decode"]))
            found[f"{key}.of_decode"] = Measure(
                limit, "x decoding", None, _MOST_DECODING, "at most"
            )
    return found


def _by_hand(by_hand: ByHand, places: list[tuple[int, int]], side: int) -> None:
    for x, y in places:
        by_hand.read(x, y, side, TILE_PX)


def _difference(slide: MadeSlide, cells: int) -> float:
    """Mean difference of the finest scale's values, ``scaled`` to ``native``."""
    read = []
    for pixels in ("native", "scaled"):
        tiles = tiles_of(slide, SCALES[:1], pixels, cells)[:_COMPARED]
        opened = open_fastest(slide.path, pixels, open_slide)
        read.append(
            [read_tile(opened.slide, one, x, y, TILE_PX) for one, x, y in tiles]
        )
        opened.slide.close()
    native, scaled = (np.stack(tiles).astype(np.int16) for tiles in read)
    return float(np.abs(native - scaled).mean())


def _plain(slide: MadeSlide, tiles: Tiles) -> None:
    """Read as most tools do: a region of level 0 in PIL, resized where needed."""
    handle = openslide.OpenSlide(slide.path)
    for reading, x, y in tiles:
        side = round(reading.extent)
        image = handle.read_region((x, y), 0, (side, side)).convert("RGB")
        if side != TILE_PX:
            image = image.resize((TILE_PX, TILE_PX), Image.Resampling.BICUBIC)
        np.asarray(image)
    handle.close()


class _Read:
    """Reads the tiles, each time from a slide that was opened before: a cold cache."""

    def __init__(
        self,
        slide: MadeSlide,
        tiles: Tiles,
        pixels: Pixels,
        times: int,
        loop_after: int,
    ):
        self._tiles, self._loop_after = tiles, loop_after
        self._opened = [
            open_fastest(slide.path, pixels, open_slide).slide for _ in range(times)
        ]

    def __call__(self) -> None:
        slide = self._opened.pop()
        usual, area_average.LOOP_AFTER = area_average.LOOP_AFTER, self._loop_after
        read = CellReader(slide, {r.mpp: r for r, _, _ in self._tiles}, TILE_PX)
        for reading, x, y in self._tiles:
            read(reading, x, y)
        area_average.LOOP_AFTER = usual
        slide.close()
