"""The contact sheet of a tiled cohort, in pages that are made as slides finish."""

from __future__ import annotations

import hashlib
import math
import os
from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from mshisto_ray.drawing import legend
from mshisto_ray.drawing.contact_sheet import Cell, cell_side, draw_contact_sheet
from mshisto_ray.drawing.overview import HEADER_PX
from mshisto_ray.jobs._coverage import LEAST_COVERAGE
from mshisto_ray.store.cohort import CohortSlide
from mshisto_ray.store.shards import read_metadata
from mshisto_ray.store.temporary import temporary_beside
from mshisto_ray.store.tiles import shard_path
from mshisto_ray.tiling.unit import overview_path

PAGE_SLIDES = 100
_FOLDER = "contact_sheet"
_QUALITY = 85
# One page of everything, as it was made before: it would show an earlier state.
_OLD_SHEET = "contact_sheet.png"
# To change with the drawing: pages of another look are made again.
_LOOK = 1
_TEXT = (
    "beside a name: share of its tissue inside tiles, at the scale where it is least "
    f"(red: under {LEAST_COVERAGE:.0%}); a grey box: why the slide has no tiles"
)


def page_path(out: Path, page: int) -> Path:
    """Path of a page of a tiles directory's contact sheet; the first is 0."""
    return out / _FOLDER / f"page-{page + 1:03d}.jpg"


class ContactSheet:
    """Pages of at most a hundred slides, in the order of the cohort.

    A page is drawn when the last of its pending slides is done, and only if something
    on it has changed.

    Args:
        out: tiles directory.
        rows: the cohort.
        scales: of the recipe.
        pending: ids of the slides that this run tiles.
    """

    def __init__(
        self,
        out: Path,
        rows: Sequence[CohortSlide],
        scales: Sequence[float],
        pending: Collection[str],
    ):
        self._out = out
        self._names = [row.slide_id for row in rows]
        self._scales = scales
        self._page_of = {n: i // PAGE_SLIDES for i, n in enumerate(self._names)}
        self._waiting = Counter(self._page_of[name] for name in pending)

    def add(self, slide_id: str) -> None:
        """Count a slide that is done; draw its page if no other slide is awaited."""
        page = self._page_of[slide_id]
        self._waiting[page] -= 1
        if not self._waiting[page]:
            self._draw(page)

    def finish(self) -> list[Path]:
        """Draw the pages that are not up to date, remove surplus ones; their paths."""
        pages = [self._draw(page) for page in range(self._num_pages)]
        for path in set((self._out / _FOLDER).glob("page-*.jpg")) - set(pages):
            path.unlink()
        (self._out / _OLD_SHEET).unlink(missing_ok=True)
        return pages

    @property
    def _num_pages(self) -> int:
        return math.ceil(len(self._names) / PAGE_SLIDES)

    def _draw(self, page: int) -> Path:
        path = page_path(self._out, page)
        names = self._names[page * PAGE_SLIDES : (page + 1) * PAGE_SLIDES]
        records = {name: read_metadata(shard_path(self._out, name)) for name in names}
        digest = self._digest(page, records)
        if _digest_in(path) == digest:
            return path
        side = cell_side(len(names))
        cells = [_cell(self._out, n, record, side) for n, record in records.items()]
        first = page * PAGE_SLIDES + 1
        title = (
            f"Slides {first} to {first + len(names) - 1} of {len(self._names)}, page "
            f"{page + 1} of {self._num_pages}: tissue and tiles"
        )
        image = draw_contact_sheet(cells, title, self._keys(), _TEXT)
        _save(image, path, digest)
        return path

    def _keys(self) -> list[legend.Key]:
        scales = [
            legend.Key(f"{scale:g} um/px", legend.scale_colour(index))
            for index, scale in enumerate(self._scales)
        ]
        drawn = legend.Key("annotation (a colour a class)", legend.class_colour(0))
        return [legend.Key("tissue", legend.TISSUE), *scales, drawn]

    def _digest(self, page: int, records: dict[str, Any]) -> str:
        """Of all that a page shows; overviews count by their size and time."""
        shown: list[Any] = [_LOOK, page, len(self._names), list(self._scales)]
        for name, record in records.items():
            overview = overview_path(self._out, name)
            state = overview.stat() if overview.is_file() else None
            shown.append((name, state and (state.st_size, state.st_mtime_ns)))
            shown.append((_coverage(record), _reason(record)))
        return hashlib.blake2b(repr(shown).encode(), digest_size=16).hexdigest()


def _save(image: Image.Image, path: Path, digest: str) -> None:
    """Write a page whole or not at all: its digest vouches for every slide on it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_beside(path)
    try:
        image.save(temporary, "JPEG", quality=_QUALITY, comment=digest.encode())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _digest_in(path: Path) -> str | None:
    """The digest that a page was made with; None: no page, or another picture."""
    try:
        with Image.open(path) as image:
            return image.info.get("comment", b"").decode(errors="replace")
    except OSError:
        return None


def _cell(out: Path, name: str, record: dict[str, Any] | None, side: int) -> Cell:
    overview = overview_path(out, name)
    if not record or not record["slide"] or not overview.is_file():
        return Cell(name, _reason(record))
    coverage = _coverage(record)
    number = "" if coverage is None else f"{coverage:.0%}"
    warns = coverage is not None and coverage < LEAST_COVERAGE
    return Cell(name, _small(overview, side), number, warns)


def _coverage(record: dict[str, Any] | None) -> float | None:
    """The least of all scales; None where it is not recorded."""
    slide = (record and record["slide"]) or {}
    return min((share for _, share in slide.get("coverage") or ()), default=None)


def _reason(record: dict[str, Any] | None) -> str:
    if record is None:
        return "not tiled yet"
    whole = [f for f in record["failures"] if f["mpp"] is None]
    return f"{whole[-1]['error']}: {whole[-1]['message']}" if whole else "no overview"


def _small(path: Path, side: int) -> Image.Image:
    with Image.open(path) as image:
        small = image.crop((0, HEADER_PX, image.width, image.height))
    small.thumbnail((side, side))
    return small
