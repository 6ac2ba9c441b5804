"""Queries and the nearest tiles that an encoder found, on one page."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from mshisto_ray.drawing import canvas
from mshisto_ray.evaluation.neighbours import Neighbours
from mshisto_ray.evaluation.plan import Plan
from mshisto_ray.slides import (
    SlideError,
    open_slide,
)
from mshisto_ray.store.tiles import TileDirectory
from mshisto_ray.tiling.pixels import read_tile
from mshisto_ray.tiling.record import readings_of

SHOWN = 5  # found tiles of a query
_QUERIES = 8
_CELL, _GAP, _FRAME, _LINE = 144, 12, 4, 16
_TEXT = 2 * _LINE + 2
_TOP = 64
# Blue and orange that colour-blind readers can distinguish.
_SAME, _OTHER = (0, 114, 178), (213, 94, 0)


def choose_queries(plan: Plan) -> np.ndarray:
    """Indices of the plan's queries to show: some of every class, in order."""
    labels = plan.retrieval.labels[plan.retrieval.queries]
    codes = np.unique(labels)[:_QUERIES]
    if not len(codes):
        return np.zeros(0, np.int64)
    each = _QUERIES // len(codes)
    places = []
    for code in codes:
        own = np.flatnonzero(labels == code)
        middle = (np.arange(each) + 0.5) / each * len(own)
        places.append(np.unique(own[middle.astype(int)]))
    return np.concatenate(places)


def read_pictures(
    tiles: TileDirectory, plan: Plan, rows: Sequence[int]
) -> dict[int, Image.Image]:
    """Read the tiles of rows from the slides; those that cannot be read are left out.

    Args:
        tiles: the tiles of the plan.
        plan: of ``make_plan``.
        rows: rows of its tile set.
    """
    tile_set = plan.labelled.tiles
    tile_px = tiles.manifest.recipe["tile_px"]
    pictures = {}
    for index in np.unique(tile_set.slide[list(rows)]):
        record = tiles.slides[tile_set.slide_ids[index]]
        path, reader = Path(record["path"]), record["reader"]
        try:
            with contextlib.closing(open_slide(path, reader)) as slide:
                reading = readings_of(record)[tile_set.mpp]
                for row in rows:
                    if tile_set.slide[row] == index:
                        corner = tile_set.centre[row] / record["mpp"]
                        x, y = np.rint(corner - reading.extent / 2).astype(int)
                        pixels = read_tile(slide, reading, int(x), int(y), tile_px)
                        pictures[row] = Image.fromarray(pixels)
        except (SlideError, OSError):
            continue  # moved or damaged since it was tiled: its cells stay empty
    return pictures


def draw_retrieval_sheet(
    title: str,
    plan: Plan,
    found: Neighbours,
    places: np.ndarray,
    pictures: Mapping[int, Image.Image],
) -> Image.Image:
    """One row per query: the query, then its five nearest tiles.

    Below each its class, its distance from the query and its patient.

    Args:
        title: above all rows.
        plan: of ``make_plan``.
        found: neighbours of the plan's queries.
        places: which queries, of ``choose_queries``.
        pictures: of ``read_pictures``.
    """
    step_x, step_y = _CELL + _GAP, _CELL + _TEXT + _GAP
    width = (SHOWN + 1) * step_x + 2 * _GAP
    page = Image.new("RGB", (width, _TOP + len(places) * step_y + _GAP), canvas.PAPER)
    draw = ImageDraw.Draw(page)
    shown = canvas.fit_text(title, 16, width - 2 * _GAP)
    draw.text((_GAP, 20), shown, canvas.INK, canvas.font(16), anchor="lm")
    for column in range(SHOWN + 1):
        text = f"nearest {column}" if column else "query"
        draw.text(
            (_left(column), 48), text, canvas.SOFT_INK, canvas.font(13), anchor="lm"
        )
    labels, classes = plan.retrieval.labels, plan.labelled.classes
    for line, place in enumerate(places):
        query = int(plan.retrieval.queries[place])
        rows = [query, *(int(row) for row in found.rows[place, :SHOWN] if row >= 0)]
        for column, row in enumerate(rows):
            corner = (_left(column), _TOP + line * step_y)
            same = labels[row] == labels[query]
            colour = canvas.INK if not column else _SAME if same else _OTHER
            name = classes[labels[row]]
            text = name if same or not column else f"{name} (other)"
            lines = (text, _whence(plan, found, place, row, column))
            _draw_cell(page, draw, corner, pictures.get(row), lines, colour)
    return page


def _whence(plan: Plan, found: Neighbours, place: int, row: int, column: int) -> str:
    """The patient of a row, after its distance from the query if it was found."""
    labelled = plan.labelled
    patient = labelled.patient_ids[labelled.tiles.slide[row]]
    if not column:
        return patient
    return f"{found.distance[place, column - 1]:.3g}, {patient}"


def _left(column: int) -> int:
    # A wider gap after the query.
    return _GAP + column * (_CELL + _GAP) + (_GAP if column else 0)


def _draw_cell(
    page: Image.Image,
    draw: ImageDraw.ImageDraw,
    corner: tuple[int, int],
    picture: Image.Image | None,
    lines: Sequence[str],
    colour: tuple[int, int, int],
) -> None:
    left, top = corner
    draw.rectangle((left, top, left + _CELL - 1, top + _CELL - 1), fill=colour)
    side = _CELL - 2 * _FRAME
    if picture:
        inside = picture.resize((side, side), Image.Resampling.LANCZOS)
        page.paste(inside, (left + _FRAME, top + _FRAME))
    else:
        low = (left + _FRAME, top + _FRAME)
        draw.rectangle((*low, low[0] + side - 1, low[1] + side - 1), canvas.RULE)
        middle = (left + _CELL / 2, top + _CELL / 2)
        draw.text(middle, "no picture", canvas.INK, canvas.font(12), anchor="mm")
    for number, (text, ink) in enumerate(
        zip(lines, (colour, canvas.SOFT_INK), strict=True)
    ):
        below = (left, top + _CELL + 1 + (number + 0.5) * _LINE)
        shown = canvas.fit_text(text, 12, _CELL)
        draw.text(below, shown, ink, canvas.font(12), anchor="lm")
