"""Tiles and slides that views lack, and that are left out for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mshisto_ray.representation.joining import Absent, JoinedSlide
from mshisto_ray.store.failures import Failure, Stage

_ERROR, _SHOWN = "NoView", 5


@dataclass(frozen=True)
class LeftOut:
    """What joining views left out.

    ``views``: mpp and embeddings of each; ``lacking``: slides that a directory lacks;
    ``joined``: the others, by slide_id.
    """

    views: Sequence[tuple[float, Path]]
    lacking: Mapping[Path, Sequence[str]]
    joined: Mapping[str, JoinedSlide]

    def notes(self) -> tuple[str, ...]:
        """A line for each directory that lacks slides, and view that lacks tiles."""
        notes = []
        for path, slides in self.lacking.items():
            if slides:
                more = ", ..." * bool(slides[_SHOWN:])
                notes.append(
                    f"views: {len(slides)} slides left out, not embedded in {path}: "
                    f"{', '.join(slides[:_SHOWN])}{more}"
                )
        joined = self.joined.values()
        total = sum(one.rows.shape[1] for one in joined)
        for number, (mpp, path) in enumerate(self.views):
            where = f"at {mpp:g} um/px in {path}"
            lost = sum(one.lost[number] for one in joined)
            ties = sum(one.ties[number] for one in joined)
            if lost:
                notes.append(
                    f"views: {lost} tiles dropped: no embedding {where}; {total} are "
                    "left"
                )
            if ties:
                notes.append(
                    f"views: {ties} tiles are as near to a second tile {where}: the "
                    "first by row and column is taken"
                )
        return tuple(notes)

    def failures(self, stage: Stage) -> tuple[Failure, ...]:
        """A failure for each slide and each tile, or parent of tiles, left out."""
        found = [
            Failure(
                slide_id, stage, "input", _ERROR,
                f"not, or not wholly, embedded in {path}: the slide is left out",
            )
            for path, slides in self.lacking.items()
            for slide_id in slides
        ]  # fmt: skip
        for slide_id, one in self.joined.items():
            for (mpp, path), absent in zip(self.views, one.absent, strict=True):
                found += tile_failures(stage, slide_id, mpp, path, absent)
        return tuple(found)


def tile_failures(
    stage: Stage, slide_id: str, mpp: float, embeddings: Path, absent: Absent
) -> list[Failure]:
    """A failure for each tile, or parent of tiles, that a view of a slide lacks.

    Args:
        stage: that leaves them out.
        slide_id: their slide.
        mpp: of the view.
        embeddings: of the view.
        absent: what it lacks.
    """
    return [
        Failure(
            slide_id, stage, "input", _ERROR,
            f"no embedding at {mpp:g} um/px in {embeddings}: {num} tiles left out; its "
            "failures.csv says why",
            mpp=absent.mpp, row=row, col=col,
        )
        for row, col, num in zip(
            absent.row.tolist(), absent.col.tolist(), absent.tiles.tolist(), strict=True
        )
    ]  # fmt: skip
