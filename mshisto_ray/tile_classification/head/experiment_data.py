"""The tiles of an experiment: compared, exchanged, and their folds written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from mshisto_ray.learning.split import Split
from mshisto_ray.statistics.permutation import exchange_sequences, hilbert_places
from mshisto_ray.store.shards import write_shard
from mshisto_ray.tile_classification.head.samples import TileSamples
from mshisto_ray.tracking import Input

NULL = (
    "embeddings are independent of which patients have which classes, and of where in "
    "a patient a class lies"
)


def difference(data: TileSamples, first: TileSamples) -> str | None:
    """Why results on these tiles cannot be compared with those on others; or None."""
    both = [_columns(samples) for samples in (data, first)]
    if all(np.array_equal(one, two) for one, two in zip(*both, strict=True)):
        return None
    if data.mpp != first.mpp:
        return (
            f"tiles of {data.mpp:g} um/px, and of {first.mpp:g} at the first point: "
            "results on different tiles cannot be compared; views join scales on the "
            "tiles of the finest"
        )
    keys = [set(zip(*(c.tolist() for c in own), strict=True)) for own in both]
    odd = {key[:3] for key in keys[0] ^ keys[1]}
    return (
        f"{len(odd):,} tiles are not at the first point too, or "
        "have another class or patient there; results on different tiles cannot be "
        "compared: give every point views whose tiles are all embedded"
    )


def _columns(samples: TileSamples) -> tuple[np.ndarray, ...]:
    """Slide, row, column, class and group of every tile, [N] each."""
    return (
        np.array(list(samples.features.slide_ids), object)[samples.slide],
        *samples.place.T,
        np.array(samples.classes, object)[samples.target],
        np.array(samples.groups, object)[samples.group],
    )


def exchange_classes(
    samples: TileSamples, generator: np.random.Generator
) -> TileSamples:
    """Tiles after patients (or what stays together) have exchanged their classes.

    A patient takes another one's classes in the order in which its tiles lie, along
    Hilbert's curve of each slide: see ``exchange_sequences``. Where every patient has
    one class, patients exchange these.
    """
    row, col = samples.place.T - samples.place.min(0, initial=0)[:, None]
    along = np.lexsort((hilbert_places(row, col), samples.slide))
    target = samples.target.copy()
    given = samples.target[along], samples.group[along], generator
    target[along] = exchange_sequences(*given)
    return replace(samples, target=target)


def tile_inputs(
    samples: TileSamples, sources: Sequence[Path], labels: Path | None
) -> list[Input]:
    """The embeddings, and what gives tiles their classes, if that is a file."""
    sizes = {"tiles": len(samples), "patients": len(samples.groups)}
    found = [Input(path.name, path, samples.digest, sizes) for path in sources]
    if labels:
        found.append(Input(labels.name, labels, samples.identity, sizes))
    return found


def write_folds(path: Path, samples: TileSamples, splits: Sequence[Split]) -> None:
    """Write ``patient_id, repeat, fold, part, tiles``: patients are in one part."""
    rows = []
    for split in splits:
        for part in ("train", "validation", "test"):
            groups = samples.group[getattr(split, part)]
            found, tiles = np.unique(groups, return_counts=True)
            for group, num in zip(found.tolist(), tiles.tolist(), strict=True):
                where = (split.repeat, split.fold, part)
                rows.append((samples.groups[group], *where, num))
    names = ("patient_id", "repeat", "fold", "part", "tiles")
    table = [dict(zip(names, row, strict=True)) for row in rows]
    write_shard(path, [pa.Table.from_pylist(table)])
