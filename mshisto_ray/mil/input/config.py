"""Configuration of a MIL run's bags: their source."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import model_validator

from mshisto_ray.config import Config, InputPath, option
from mshisto_ray.representation.views import ViewConfig
from mshisto_ray.store.columns import ColumnsConfig


class InputConfig(Config):
    """Source of the bags: ``embeddings`` with ``cohort``, or ``bags``.

    ``bags`` may have a ``cohort`` too, whose columns then come before their own.
    """

    embeddings: InputPath | tuple[InputPath, ...] | None = option(
        None,
        "directory that mshisto embed made; a list: one per entry of scales, if each "
        "scale has its own encoder",
    )
    cohort: InputPath | None = option(
        None, "table of slides, or of the patients of bags, with their labels"
    )
    columns: ColumnsConfig = ColumnsConfig()
    bags: InputPath | None = option(
        None,
        "Parquet table in place of embeddings and cohort: a row per instance with bag, "
        "label, features, and if wanted patient_id and fold; labels may come from "
        "cohort in its place",
    )
    scale: float | None = option(
        None, "scale of the embeddings; null: their finest", unit="um/px", gt=0
    )
    colour: str | None = option(
        None, "colour mode of the embeddings, as gray; null: their first"
    )
    scales: tuple[Annotated[float, option(gt=0)], ...] | None = option(
        None,
        "scales that combine joins, coarsest first, as [2.0, 1.0]; an instance is then "
        "a tile of the first with its finer ones",
        unit="um/px",
    )
    views: tuple[ViewConfig, ...] | None = option(
        None,
        "in place of embeddings and scale: several of a tile, side by side, as "
        "[{embeddings: DIR, mpp: 0.5}, {embeddings: DIR, mpp: 2.0, colour: gray}]",
    )
    unit: Literal["slide", "patient"] = option(
        "slide", "what a bag is: one slide, or all labelled slides of a patient"
    )

    @model_validator(mode="after")
    def _one_source(self) -> InputConfig:
        names = ("embeddings", "views", "cohort", "bags")
        given = {n for n in names if getattr(self, n)}
        sources = [{"embeddings", "cohort"}, {"views", "cohort"}]
        if given not in (*sources, {"bags"}, {"bags", "cohort"}):
            raise ValueError(
                "give embeddings (or views) and cohort, or bags, with or without a "
                "cohort; got "
                f"{', '.join(sorted(given)) or 'none of them'}"
            )
        if self.bags and (self.scale is not None or self.scales is not None):
            raise ValueError("scale: a bag table has no scales; leave it null")
        if self.colour and not self.embeddings:
            raise ValueError("colour: of embeddings; each of the views has its own")
        if self.views and (self.scale is not None or self.scales is not None):
            raise ValueError("views: each has its mpp; leave scale and scales null")
        if self.scales is not None and self.scale is not None:
            raise ValueError("give scale (one) or scales (several), not both")
        if self.scales is not None and len(self.scales) < 2:
            raise ValueError("scales: give at least two, or one as scale")
        paths = self.embeddings
        if isinstance(paths, tuple) and len(paths) != len(self.scales or ()):
            raise ValueError(
                f"embeddings: {len(paths)} directories for "
                f"{len(self.scales or ())} scales; give one, or one per scale"
            )
        return self

    @property
    def directories(self) -> tuple[Path, ...]:
        """Embeddings of each scale, coarsest first."""
        if self.views:
            return tuple(view.embeddings for view in self.views)
        if isinstance(self.embeddings, tuple):
            return self.embeddings
        assert self.embeddings is not None
        return (self.embeddings,) * len(self.scales or (0,))
