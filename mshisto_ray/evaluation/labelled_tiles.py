"""Tiles with their class, sorted so that slides, patients and sites are ranges."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from mshisto_ray.config import Config, InputError, option
from mshisto_ray.evaluation.exclusion import Exclusion
from mshisto_ray.evaluation.tile_set import TileSet

ANNOTATION = "annotation"
UNANNOTATED = "(unannotated)"
# The class of every tile where no classes are used.
NO_CLASS = "(no class)"


class LabelConfig(Config):
    """Where the class of a tile comes from."""

    column: str | None = option(
        ANNOTATION,
        "annotation: the class the tile lies in; else a column of the cohort: the "
        "class of the tile's slide; null: no classes, only spatial pairs and parents "
        "are evaluated",
    )
    min_annotated: float = option(
        0.5,
        "least share of a tile inside its annotation; tiles below it, on an edge, are "
        "left out",
        unit="share",
        gt=0,
        le=1,
    )
    unannotated: Literal["other", "leave_out"] = option(
        "other",
        "tiles without annotation: one more class to retrieve, or left out",
    )
    most_padded: float = option(
        0.05,
        "largest share of a tile beyond the slide's edge, which is padded white; tiles "
        "with more are left out, as padding alone makes them alike; 1: all are used",
        unit="share",
        ge=0,
        le=1,
    )


class ExclusionConfig(Config):
    """Tiles excluded from a query's results."""

    by: Literal["self", "block", "slide", "patient", "site"] = option(
        "patient",
        "tiles of the query's slide, patient or site; block: tiles of its slide within "
        "block_um; self: only itself",
    )
    block_um: float = option(
        1000.0, "distance of tile centres, with by: block", unit="um", gt=0
    )
    site_column: str = option("site", "column of the cohort, with by: site")


@dataclass(frozen=True)
class LabelledTiles:
    """Own tiles of one scale with their classes.

    ``label``: index into ``classes`` [N]; ``patient``, ``site``: numbers [N] that do
    not decrease, like those of slides; ``patient_ids``: of each slide; ``notes``:
    what was left out.
    """

    tiles: TileSet
    label: np.ndarray
    classes: tuple[str, ...]
    patient: np.ndarray
    site: np.ndarray
    patient_ids: tuple[str, ...]
    notes: tuple[str, ...]

    def exclusion(self, config: ExclusionConfig) -> Exclusion:
        """The rows that are excluded for a query among these rows."""
        if config.by == "block":
            return Exclusion(self.tiles.slide, self.tiles.centre, config.block_um)
        groups = {
            "self": np.arange(len(self.label)),
            "slide": self.tiles.slide,
            "patient": self.patient,
            "site": self.site,
        }
        return Exclusion(groups[config.by])

    def counts(self) -> dict[str, int]:
        """The number of tiles of each class."""
        numbers = np.bincount(self.label, minlength=len(self.classes))
        return dict(zip(self.classes, numbers.tolist(), strict=True))

    def query_rows(self, wanted: Sequence[str] | None) -> np.ndarray:
        """Rows of the classes used as queries, sorted; None: all but the unannotated.

        Without classes there are no queries.

        Raises:
            InputError: a class without tiles.
        """
        none = (UNANNOTATED, NO_CLASS)
        known = {c: n for c, n in self.counts().items() if c not in none}
        for name in wanted or ():
            if name not in known:
                have = ", ".join(f"{c} ({n} tiles)" for c, n in known.items())
                raise InputError(f"queries: no tile is of class {name!r}; have {have}")
        codes = [self.classes.index(name) for name in wanted or known]
        return np.flatnonzero(np.isin(self.label, codes))
