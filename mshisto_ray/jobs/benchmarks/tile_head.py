"""An epoch of a tile head from a mapped file, against the same from memory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
from pydantic import Field
from torch import nn

from mshisto_ray.jobs.benchmarks._benchmark import (
    Benchmark,
    Measure,
    forget_peak_memory,
    interleaved,
    peak_memory_mib,
)
from mshisto_ray.store.features import ArrayFeatures
from mshisto_ray.tile_classification.head.epochs import Epochs
from mshisto_ray.tile_classification.head.loss import FocalLoss
from mshisto_ray.tile_classification.head.samples import TileSamples

_CLASSES, _BATCH, _WINDOW, _SLIDES = 5, 256, 65536, 100
_MOST_TIME, _MOST_MEMORY = 1.5, 2000.0
Batches = Iterator[tuple[np.ndarray, np.ndarray]]


def build(
    *,
    tiles: Annotated[int, Field(ge=1000)] = 1_000_000,
    width: Annotated[int, Field(ge=8)] = 1024,
    repeats: Annotated[int, Field(ge=1)] = 1,
) -> Benchmark:
    """CPU time of a shuffled epoch and its peak memory, float16 embeddings.

    Args:
        tiles: in the file.
        width: of an embedding.
        repeats: epochs of each way, in turns; the median ratio counts.
    """

    def measure(folder: Path) -> dict[str, Measure]:
        path = folder / "features.npy"
        _write(path, tiles, width)
        samples = _samples(np.load(path, mmap_mode="c"))
        stream = Epochs(samples, np.arange(tiles), _WINDOW, False)
        forget_peak_memory()
        _epoch(stream.batches(_BATCH, np.random.default_rng(0)), width)
        memory = peak_memory_mib()
        whole = np.load(path)
        ways = {
            "mapped": lambda: _epoch(
                stream.batches(_BATCH, np.random.default_rng(1)), width
            ),
            "memory": lambda: _epoch(_in_memory(whole, samples.target), width),
        }
        seconds = interleaved(ways, repeats)
        path.unlink()
        mapped, plain = (float(np.median(seconds[n])) for n in ("mapped", "memory"))
        ratio = float(np.median(seconds["mapped"] / seconds["memory"]))
        return {
            "tile_head.epoch": Measure(mapped, "CPU s", plain),
            "tile_head.ratio": Measure(ratio, "x", None, _MOST_TIME, "at most"),
            "tile_head.memory": Measure(memory, "MiB", None, _MOST_MEMORY, "at most"),
        }

    return measure


def _write(path: Path, tiles: int, width: int) -> None:
    """Random embeddings of the size, a part at a time."""
    rng = np.random.default_rng(0)
    path.parent.mkdir(parents=True, exist_ok=True)
    file = np.lib.format.open_memmap(path, "w+", np.float16, (tiles, width))
    part = rng.normal(size=(min(tiles, 10_000), width)).astype(np.float16)
    for start in range(0, tiles, len(part)):
        file[start : start + len(part)] = part[: tiles - start]
    file.flush()


def _samples(values: np.ndarray) -> TileSamples:
    num = len(values)
    offsets = np.linspace(0, num, _SLIDES + 1).astype(np.int64)
    slide = np.repeat(np.arange(_SLIDES), np.diff(offsets))
    row = np.arange(num) - offsets[slide]
    names = [f"s{i}" for i in range(_SLIDES)]
    return TileSamples(
        features=ArrayFeatures(names, values, offsets),
        slide=slide,
        row=row,
        place=np.stack([row, row], 1),
        target=np.arange(num) % _CLASSES,
        group=slide,
        groups=tuple(names),
        classes=tuple("abcde"),
        folds=None,
        views=(values.shape[1],),
        mpp=0.5,
        digest="",
        encoder={},
        notes=(),
    )


def _in_memory(values: np.ndarray, target: np.ndarray) -> Batches:
    order = np.random.default_rng(1).permutation(len(target))
    for start in range(0, len(order), _BATCH):
        chosen = order[start : start + _BATCH]
        yield values[chosen], target[chosen]


def _epoch(batches: Batches, width: int) -> None:
    """Train a dense layer with focal loss on the batches."""
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        model = nn.Linear(width, _CLASSES)
    loss, optimiser = FocalLoss(2.0), torch.optim.Adam(model.parameters())
    for values, codes in batches:
        optimiser.zero_grad()
        logits = model(torch.from_numpy(values).float())
        loss(logits, torch.from_numpy(codes)).backward()
        optimiser.step()
