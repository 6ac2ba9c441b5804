"""Whether and how a slide can be tiled, from its header alone, without pixels."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mshisto_ray.slides import SlideError, checked_mpp, frame_of, open_slide
from mshisto_ray.store.cohort import CohortSlide
from mshisto_ray.tiling.recipe import TilingRecipe
from mshisto_ray.tiling.resolution import served_scales
from mshisto_ray.tiling.tissue import read_regions

# Calibrations of one objective differ by some 5 % (40x: 0.25 and 0.263 um/px), two
# objectives by 100 %: beyond this, one of two values is wrong.
MPP_DISAGREEMENT = 0.1


@dataclass(frozen=True)
class SlideHeader:
    """Resolution and scales of a slide, read from its header.

    Attributes:
        mpp: micrometres per pixel of level 0, as used; None: refused.
        source: of the mpp: "file", "cohort" or "none".
        area_mm2: of the whole plane.
        lacking: configured scales that it is too coarse for, um/px.
        refused: why the slide will give no tile; empty: it is expected to give some.
        warnings: what will be left out, or looks wrong.
    """

    mpp: float | None = None
    source: str = "none"
    area_mm2: float = 0.0
    lacking: tuple[float, ...] = ()
    refused: str = ""
    warnings: tuple[str, ...] = ()


def read_header(row: CohortSlide, recipe: TilingRecipe) -> SlideHeader:
    """Open a slide, check its resolution, scales and annotation, close it.

    Raises:
        SlideError: it cannot be opened.
        OSError: it cannot be reached.
    """
    slide = open_slide(_reachable(row.path), recipe.reader)
    try:
        in_file, frame = slide.mpp, frame_of(slide)
        width, height = slide.levels[0].width, slide.levels[0].height
    finally:
        slide.close()
    from_cohort = row.mpp is not None
    source = "cohort" if from_cohort else "none" if in_file is None else "file"
    try:
        mpp = checked_mpp(in_file, row.mpp)
    except SlideError as error:
        return SlideHeader(source=source, refused=f"{error.name}: {error}")
    warnings = _disagreement(in_file, row.mpp)
    served, lacking = served_scales(mpp, recipe.scales, recipe.max_upsample)
    refused = ""
    if not served:
        refused = f"NoScale: scanned at {mpp:.4g} um/px, too coarse for every scale"
    try:
        _, failures = read_regions(row, frame, recipe)
        warnings += [failure.message for failure in failures]
    except SlideError as error:
        refused = refused or f"{error.name}: {error}"
    area = width * height * (mpp / 1000) ** 2
    return SlideHeader(mpp, source, area, tuple(lacking), refused, tuple(warnings))


def _reachable(path: Path) -> Path:
    """The path; raises OSError where the file cannot be read at all."""
    path.stat()
    return path


def _disagreement(in_file: float | None, in_cohort: float | None) -> list[str]:
    if in_file is None or in_cohort is None:
        return []
    apart = max(in_file / in_cohort, in_cohort / in_file) - 1
    if apart <= MPP_DISAGREEMENT:
        return []
    return [
        f"the cohort gives {in_cohort:g} um/px, the file {in_file:.4g}: the cohort's "
        "is used; empty its mpp cell to use the file's"
    ]
