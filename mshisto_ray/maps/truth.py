"""What a slide really holds: annotated regions, and points of a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import shapely
from shapely.geometry.base import BaseGeometry

from mshisto_ray.config import InputError
from mshisto_ray.store.table import read_table
from mshisto_ray.tiling.annotation import Region


@dataclass(frozen=True)
class PointTable:
    """True points of slides.

    ``places``: (x, y) [N, 2] in level-0 pixels by slide and class; the class "" where
    the table has no column ``label``: of any class.
    """

    places: Mapping[str, Mapping[str, np.ndarray]]

    def of(self, slide_id: str, name: str) -> np.ndarray:
        """Points [N, 2] of a class on a slide."""
        by_class = self.places.get(slide_id, {})
        parts = [by_class[key] for key in ("", name) if key in by_class]
        return np.concatenate([np.zeros((0, 2)), *parts])


def read_points(path: Path) -> PointTable:
    """A table with ``slide_id, x, y`` in level-0 pixels and, if wanted, ``label``.

    A slide that was searched and holds none has a row with empty ``x`` and ``y``.

    Raises:
        InputError: no such table, a column that is missing, places that are no numbers.
    """
    table = read_table(path, "points")
    missing = [n for n in ("slide_id", "x", "y") if n not in table.columns]
    if missing:
        raise InputError(
            f"points: {path} lacks {', '.join(missing)}; it has "
            f"{', '.join(table.columns)}"
        )
    labels = table.columns.get("label")
    found: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for i, slide_id in enumerate(table.columns["slide_id"]):
        cells = [table.columns[name][i] for name in ("x", "y")]
        own = found.setdefault(str(slide_id), {})
        if cells == [None, None]:
            continue
        name = labels[i] if labels else ""
        if name is None:
            raise InputError(f"points: {path}: row {i + 1}: no label")
        try:
            x, y = (float(str(cell)) for cell in cells)
        except ValueError:
            raise InputError(
                f"points: {path}: row {i + 1}: x {cells[0]}, y {cells[1]}: give "
                "numbers of level-0 pixels"
            ) from None
        own.setdefault(name, []).append((x, y))
    return PointTable(
        {
            slide_id: {name: np.array(values, float) for name, values in own.items()}
            for slide_id, own in found.items()
        }
    )


def lesions(regions: Sequence[Region], name: str) -> list[BaseGeometry]:
    """Connected areas of a class; regions that overlap or touch are one."""
    whole = shapely.union_all([r.polygon for r in regions if r.name == name])
    return [part for part in shapely.get_parts(whole) if part.area > 0]
