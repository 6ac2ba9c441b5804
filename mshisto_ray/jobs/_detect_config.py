"""Config of regions and points of probability maps."""

from __future__ import annotations

from typing import Literal

from mshisto_ray.config import Config, InputPath, OutputPath, option
from mshisto_ray.runtime import Runtime
from mshisto_ray.store.columns import ColumnsConfig


class DetectConfig(Config):
    """Turn probabilities of tiles into regions and points, and measure them."""

    predictions: InputPath = option(
        text="folder that predict or tile_head made, of a head that classifies tiles"
    )
    tiles: InputPath = option(text="tiles directory of the same slides")
    out: OutputPath = option(text="folder of maps, GeoJSON, tables and pictures")
    classes: tuple[str, ...] | None = option(
        None, "of the head, to map; null: all, of two the second"
    )
    smooth_um: float = option(
        0.0, "standard deviation of a Gaussian over the map; 0: none", "um", ge=0
    )
    decision: bool = option(
        True,
        "take the head's calibrated probabilities where it keeps a calibration, and "
        "its threshold where threshold is null; false: probabilities as they are",
    )
    threshold: float | None = option(
        None,
        "least probability of a region; null: that of the head's decision where its "
        "second class alone is mapped, else 0.5",
        gt=0,
        le=1,
    )
    min_area_mm2: float = option(0.0, "smaller regions are left out", "mm2", ge=0)
    peak_um: float | None = option(
        None, "least distance of two points; null: twice the side of a tile", "um", gt=0
    )
    peak_threshold: float | None = option(
        None, "least probability of a point; null: as threshold", gt=0, le=1
    )
    cohort: InputPath | None = option(
        None, "with annotations, to measure regions and points; null: not from these"
    )
    columns: ColumnsConfig = ColumnsConfig()
    annotations: dict[str, str] = option(
        {}, "{class: class of the annotation}, where they are named differently"
    )
    unannotated: Literal["leave_out", "free"] = option(
        "leave_out",
        "slides of the cohort without annotation: not measured, or free of lesions",
    )
    points: InputPath | None = option(
        None,
        "table of true points (slide_id, x, y in level-0 pixels, label), in place of "
        "annotated lesions; a slide without any has a row with x and y empty",
    )
    tolerance_um: float | None = option(
        None,
        "a point finds a lesion or true point that is as near; null: half the side of "
        "a tile",
        "um",
        ge=0,
    )
    pictures: bool = option(True, "draw the maps over the slides")
    runtime: Runtime = Runtime()
