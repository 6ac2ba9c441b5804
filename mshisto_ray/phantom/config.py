"""Configuration of a phantom cohort."""

from __future__ import annotations

from typing import Self

from pydantic import model_validator

from mshisto_ray.config import Config, option

# Fine tiles along the side of a coarse tile; the middle scale lies between.
FINE_PER_COARSE = 4
# Coarse tiles along a slide's side; with fewer, too few lie wholly in tissue.
_LEAST_COARSE = 8


class PhantomConfig(Config):
    """A cohort of synthetic H&E slides.

    Scales are ``mpp``, ``2 mpp`` and ``4 mpp``; ``tile_px`` holds at each of them.
    """

    num_patients: int = option(
        48, "patients; labels are balanced exactly if even", ge=2, le=10_000
    )
    slides_per_patient: int = option(2, "all with the patient's labels", ge=1, le=20)
    size: int = option(
        2560, "side of a slide; a multiple of 4 tile_px", "px", ge=512, le=32_768
    )
    mpp: float = option(0.5, "of level 0 and of the finest scale", "um/px", gt=0, le=4)
    tile_px: int = option(64, "side of a tile; a multiple of 16", "px", ge=64, le=512)
    witness_rate: float = option(
        0.03, "share of tissue's finest tiles that carry a sign", ge=0.005, le=0.1
    )
    colour_matched: bool = option(
        True, "signs are texture and arrangement alone; false: colour shows them"
    )
    region: int = option(
        200, "width (sigma) of the smooth fields that make its regions", "px", ge=32
    )
    light: float = option(
        3.0,
        "unevenness of the light, at most this much up and down along each axis; 0 if "
        "colour must not depend on the position",
        "grey levels",
        ge=0,
        le=3,
    )
    native_tile: int = option(
        256, "side of the TIFF's tiles; a multiple of 16", "px", ge=64, le=1024
    )
    quality: int = option(90, "of the JPEG", ge=80, le=100)
    seed: int = option(0, ge=0)

    @property
    def num_slides(self) -> int:
        """Slides of the whole cohort."""
        return self.num_patients * self.slides_per_patient

    @property
    def scales(self) -> tuple[float, float, float]:
        """Micrometres per pixel, finest first."""
        return self.mpp, 2 * self.mpp, 4 * self.mpp

    @model_validator(mode="after")
    def _sizes_fit(self) -> Self:
        for name in ("tile_px", "native_tile"):
            if getattr(self, name) % 16:
                raise ValueError(
                    f"{name}={getattr(self, name)} is not a multiple of 16 "
                    "(TIFF tiles and JPEG blocks): take 64, 128, 240, 256, ..."
                )
        coarse = FINE_PER_COARSE * self.tile_px
        if self.size % coarse or self.size < _LEAST_COARSE * coarse:
            raise ValueError(
                f"size={self.size} is not a multiple of {coarse} px (4 tile_px) of at "
                f"least {_LEAST_COARSE * coarse} px: take "
                f"{max(_LEAST_COARSE, round(self.size / coarse)) * coarse}"
            )
        return self
