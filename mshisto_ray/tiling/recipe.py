"""The config keys that decide which tiles are planned."""

from __future__ import annotations

from typing import Annotated, Any, Self

from pydantic import AfterValidator

from mshisto_ray.components import Family, NameOf, Part
from mshisto_ray.config import Config, InputError, InputPath, option
from mshisto_ray.slides import AUTO, FAMILY
from mshisto_ray.store.embeddings import STAGE as EMBEDDINGS
from mshisto_ray.store.manifest import read_manifest
from mshisto_ray.tiling.reader import Pixels
from mshisto_ray.tiling.resolution import check_chain


def _chain(scales: tuple[float, ...]) -> tuple[float, ...]:
    try:
        return check_chain(scales)
    except InputError as error:
        raise ValueError(str(error).removeprefix("scales: ")) from None


class TilingRecipe(Config):
    """Everything that changes tile rows; its digest names a tiles directory."""

    scales: Annotated[tuple[float, ...], AfterValidator(_chain)] = option(
        (0.5, 1.0, 2.0),
        "target resolutions, each a whole multiple of the next finer (20x is 0.5)",
        unit="um/px",
    )
    tile_px: int = option(256, "side of a tile at every scale", unit="px", ge=16)
    tissue: Annotated[Part, Family("mshisto_ray.tiling.tissue_masks")] = option(
        Part(name="otsu"), "how tissue is found on the thumbnail"
    )
    tissue_threshold: float = option(
        0.5, "least share of tissue in a tile", unit="share", gt=0, le=1
    )
    thumbnail_mpp: float = option(
        8.0, "resolution at which tissue is found", unit="um/px", ge=1, le=64
    )
    focus_mpp: float | None = option(
        2.0,
        "resolution at which each tile's sharpness is measured, if the slide has a "
        "level near it; null: not measured",
        unit="um/px",
        ge=0.1,
        le=16,
    )
    mpp_tolerance: float = option(
        0.02,
        "relative error of mpp accepted to downsample by an integer factor",
        unit="share",
        ge=0,
        le=0.2,
    )
    max_upsample: float = option(
        1.1, "largest upsampling; finer scales are left out", unit="x", ge=1, le=2
    )
    pixels: Pixels = option(
        "native",
        "native: each scale from its nearest suitable native level; finest: every "
        "scale averaged from the level of the finest; scaled: as native, plus levels "
        "decoded from JPEG at 1/2 or 1/4 where the scan has none",
    )
    reader: Annotated[str, NameOf(FAMILY, (AUTO,))] = option(
        AUTO,
        "who reads slides; auto: the fastest that gives OpenSlide's pixels, OpenSlide, "
        "or who declares a file that OpenSlide does not open",
    )
    chunk_tiles: int = option(
        1024, "target number of finest tiles per unit of work", unit="tiles", ge=1
    )

    places: InputPath | None = option(
        None,
        "imported features: their tiles in place of those of a grid, all of them; "
        "scales and tile_px are theirs",
    )

    def without_focus(self) -> Self:
        """A copy that plans the same tiles without measuring their sharpness."""
        return self.model_copy(update={"focus_mpp": None})

    def as_recipe(self) -> dict[str, Any]:
        """The recipe as JSON values, with the digest of imported features.

        A reader and places only where they are named: recipes made before these keys
        have none.
        """
        recipe = self.model_dump(mode="json")
        if self.reader == AUTO:
            del recipe["reader"]
        if self.places is None:
            del recipe["places"]
        else:
            recipe["places"] = read_manifest(self.places, EMBEDDINGS).digest
        return recipe
