"""Several heads applied in one pass: a slide's embeddings are read once for all."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from mshisto_ray.prediction.unit import PredictWork, make_predictor
from mshisto_ray.store.embeddings import EmbeddingDirectory, TileEmbeddings

Unit = dict[str, Any]


class _SharedDirectory(EmbeddingDirectory):
    """An embeddings directory that keeps what it has read, until ``forget``."""

    def __init__(self, path: Path):
        super().__init__(path)
        self._kept: dict[tuple[Any, ...], TileEmbeddings] = {}

    def read(
        self,
        slide_id: str,
        mpp: float,
        own_only: bool = True,
        colour: str | None = None,
    ) -> TileEmbeddings:
        """See ``EmbeddingDirectory.read``."""
        key = slide_id, mpp, own_only, colour
        if key not in self._kept:
            self._kept[key] = super().read(*key)
        return self._kept[key]

    def forget(self) -> None:
        """Free what was read."""
        self._kept.clear()


def unit_name(unit: Mapping[str, Any]) -> str:
    """What tells units apart: bags of two heads may have one name."""
    return json.dumps(unit, sort_keys=True)


def make_predictors(
    works: Mapping[str, tuple[PredictWork, Collection[str]]], threads: int
) -> Callable[[Unit], Unit]:
    """The function that predicts a bag by every head that lacks it.

    Each head writes the files that it writes alone.

    Args:
        works: inputs of each head and ``unit_name`` of the units that it lacks.
        threads: of a worker.
    """
    share = functools.cache(_SharedDirectory)
    heads = [
        (make_predictor(work, threads, share), frozenset(lacking))
        for work, lacking in works.values()
    ]
    opened = {path for work, _ in works.values() for path in work.embeddings}

    def predict_bag(unit: Unit) -> Unit:
        name = unit_name(unit)
        rows = [predict(unit) for predict, lacking in heads if name in lacking]
        for path in opened:
            share(path).forget()
        return {**rows[0], **_first_unwritten(rows)}

    return predict_bag


def _first_unwritten(rows: list[Unit]) -> Unit:
    """A unit that one head could not write is not written."""
    lost = [row["unwritten"] for row in rows if "unwritten" in row]
    return {"unwritten": lost[0]} if lost else {}
