"""Training of MIL models: ragged batches against one bag at a time in plain torch.

On a CPU also the models of ten folds at once.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import torch
from pydantic import Field

from mshisto_ray.config import InputError
from mshisto_ray.jobs.benchmarks._benchmark import Benchmark, Measure, interleaved
from mshisto_ray.jobs.benchmarks._made_bags import bags_of
from mshisto_ray.jobs.benchmarks._mil_folds import measure_folds
from mshisto_ray.jobs.benchmarks._mil_ways import PLAIN_LR, Ours, Plain
from mshisto_ray.learning.comparison import compare
from mshisto_ray.mil.fit.cross_validation import as_predictions
from mshisto_ray.mil.input.bags import Bags


@dataclass(frozen=True)
class _Case:
    """Bags of one kind; ``target``: least ratio of bags per second.

    ``lr``: larger where a step has several bags, as there are fewer steps.
    """

    name: str
    bags: int
    dim: int
    sizes: Callable[[np.random.Generator, int], np.ndarray]
    batch_size: int
    lr: float
    target: float


def _lognormal(rng: np.random.Generator, num: int) -> np.ndarray:
    sizes = rng.lognormal(np.log(2500) - 0.32, 0.8, num)
    return np.clip(sizes, 50, 20_000).astype(np.int64)


_CASES = (
    _Case("musk_like", 640, 166, lambda r, n: r.integers(2, 19, n), 64, 8e-3, 5.0),
    _Case("100_tiles", 320, 1024, lambda r, n: np.full(n, 100), 8, 8e-3, 1.6),
    _Case("lognormal_2500", 32, 1024, _lognormal, 1, PLAIN_LR, 1.1),
    _Case("5000_tiles", 12, 1024, lambda r, n: np.full(n, 5000), 1, PLAIN_LR, 1.0),
)


def build(
    *,
    repeats: Annotated[int, Field(ge=2)] = 9,
    device: Literal["cpu", "cuda"] = "cpu",
) -> Benchmark:
    """Epochs of an attention model, Adam, one thread; half the bags are for testing.

    Args:
        repeats: epochs of each way, in turns; reported are the median ratio and the
            gain in AUROC with a 95 % interval over test bags.
        device: where both ways train: CPU time is taken, on a GPU wall time.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise InputError("benchmark.device: this machine has no GPU; give cpu")

    def measure(folder: Path) -> dict[str, Measure]:
        del folder  # nothing is written
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        found: dict[str, Measure] = {}
        for case in _CASES:
            found |= _measure(case, repeats, torch.device(device))
        if device == "cpu":
            found |= measure_folds(repeats)
        torch.set_num_threads(threads)
        return found

    return measure


def _gpu_clock() -> float:
    torch.cuda.synchronize()
    return time.perf_counter()


def _measure(case: _Case, repeats: int, device: torch.device) -> dict[str, Measure]:
    bags = _make_bags(case)
    train = np.arange(0, len(bags), 2)
    test = train + 1
    ours = Ours(bags, train, case.batch_size, case.lr, device)
    plain = Plain(bags, train, device)
    tidy = Plain(bags, train, device, tidy=True)
    # The first epoch pays for memory and threads.
    ours.epoch()
    plain.epoch()
    tidy.epoch()
    ways = {"ours": ours.epoch, "plain": plain.epoch, "tidy": tidy.epoch}
    clock = _gpu_clock if device.type == "cuda" else time.process_time
    seconds = interleaved(ways, repeats, clock)
    ratio = float(np.median(seconds["plain"] / seconds["ours"]))
    rate = len(train) / float(np.median(seconds["ours"]))
    base = len(train) / float(np.median(seconds["plain"]))
    name = f"mil.{case.name}"
    quality = compare(
        as_predictions(bags, test, ours.probabilities(test), 0, 0),
        as_predictions(bags, test, plain.probabilities(test), 0, 0),
    )
    return {
        f"{name}.bags_per_s": Measure(rate, "bags/s", baseline=base),
        f"{name}.ratio": Measure(ratio, "x", target=case.target),
        f"{name}.tidy_ratio": Measure(
            float(np.median(seconds["tidy"] / seconds["ours"])), "x", target=1.0
        ),
        f"{name}.test_auroc": Measure(quality.first, "", baseline=quality.second),
        f"{name}.test_auroc_gain_low": Measure(quality.difference.low, ""),
        f"{name}.test_auroc_gain_high": Measure(quality.difference.high, ""),
    }


def _make_bags(case: _Case) -> Bags:
    """Every second pair of bags is positive: a tenth of its instances is shifted."""
    rng = np.random.default_rng(0)
    sizes = case.sizes(rng, 2 * case.bags)
    ends = np.concatenate([[0], sizes.cumsum()]).astype(np.int64)
    values = rng.standard_normal((ends[-1], case.dim), dtype=np.float32)
    targets = np.arange(2 * case.bags) // 2 % 2
    for start, size, target in zip(ends[:-1], sizes, targets, strict=True):
        if target:
            values[start : start + max(1, size // 10), :8] += 2
    return bags_of(values, ends, targets)
