"""Training of MIL models: ragged batches against one bag at a time in plain torch."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import torch
from pydantic import Field
from torch import nn

from mshisto_ray import config as configs
from mshisto_ray.config import InputError
from mshisto_ray.learning.metrics import auroc
from mshisto_ray.mil.bags import Bags
from mshisto_ray.mil.batches import Batches, fit_standardisation, slide_moments
from mshisto_ray.mil.train import build_model, fit_fold, log_probabilities
from mshisto_ray.mil.train_config import TrainConfig
from mshisto_ray.mil.train_together import Task, fit_together
from mshisto_ray.store.features import ArrayFeatures
from mshisto_ray.workflows.benchmarks._benchmark import (
    Benchmark,
    Measure,
    interleaved,
)

_CPU = torch.device("cpu")
_FOLDS = 10


@dataclass(frozen=True)
class _Case:
    """Bags of one kind; ``target``: least ratio of bags a second."""

    name: str
    bags: int
    dim: int
    sizes: Callable[[np.random.Generator, int], np.ndarray]
    batch_size: int
    target: float


def _lognormal(rng: np.random.Generator, num: int) -> np.ndarray:
    sizes = rng.lognormal(np.log(2500) - 0.32, 0.8, num)
    return np.clip(sizes, 50, 20_000).astype(np.int64)


_CASES = (
    _Case("musk_like", 640, 166, lambda r, n: r.integers(2, 19, n), 64, 5.0),
    _Case("100_tiles", 320, 1024, lambda r, n: np.full(n, 100), 8, 1.6),
    _Case("lognormal_2500", 32, 1024, _lognormal, 1, 1.1),
    _Case("5000_tiles", 12, 1024, lambda r, n: np.full(n, 5000), 1, 1.0),
)


def build(
    *,
    repeats: Annotated[int, Field(ge=2)] = 9,
    device: Literal["cpu", "cuda"] = "cpu",
) -> Benchmark:
    """Epochs of an attention model, Adam, one thread; half the bags are for testing.

    Args:
        repeats: epochs of each way, in turns; the median ratio is told.
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
            found |= _measure_folds(_CASES[0], repeats)
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
    ours = _Ours(bags, train, case.batch_size, device)
    plain = _Plain(bags, train, device)
    # The first epoch pays for memory and threads.
    ours.epoch()
    plain.epoch()
    ways = {"ours": ours.epoch, "plain": plain.epoch}
    clock = _gpu_clock if device.type == "cuda" else time.process_time
    seconds = interleaved(ways, repeats, clock)
    ratio = float(np.median(seconds["plain"] / seconds["ours"]))
    rate = len(train) / float(np.median(seconds["ours"]))
    base = len(train) / float(np.median(seconds["plain"]))
    name = f"mil.{case.name}"
    return {
        f"{name}.bags_per_s": Measure(rate, "bags/s", baseline=base),
        f"{name}.ratio": Measure(ratio, "x", target=case.target),
        f"{name}.test_auroc": Measure(ours.auroc(test), "", baseline=plain.auroc(test)),
    }


def _measure_folds(case: _Case, repeats: int) -> dict[str, Measure]:
    """Models of ten folds trained at once against one after the other, a bag a step."""
    bags = _make_bags(dataclasses.replace(case, bags=50))
    raw = {"hidden": [256, 128, 64], "epochs": 1, "early_stopping": None}
    config = configs.validate(TrainConfig, raw | {"pooling": {"name": "attention"}})
    slides, everything = slide_moments(bags), np.arange(len(bags))
    tasks = [
        Task(fit_standardisation(bags, slides, train), train, (0, fold))
        for fold in range(_FOLDS)
        for train in [everything[everything % _FOLDS != fold]]
    ]

    def together() -> None:
        fit_together(bags, tasks, config, lambda done: None)

    def apart() -> None:
        for task in tasks:
            parts = (task.train, task.train[:0])
            fit_fold(bags, task.standardisation, *parts, config, task.stream, _CPU)

    seconds = interleaved({"together": together, "apart": apart}, repeats)
    ratio = float(np.median(seconds["apart"] / seconds["together"]))
    return {"mil.ten_folds.ratio": Measure(ratio, "x", target=1.0)}


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
    names = tuple(str(i) for i in range(len(sizes)))
    return Bags(
        features=ArrayFeatures(names, values, ends),
        names=names,
        members=tuple((i,) for i in range(len(sizes))),
        slide_ids=(None,) * len(sizes),
        patient_ids=names,
        targets=targets,
        classes=("negative", "positive"),
        folds=None,
        sizes=sizes,
        digest="",
        encoder=None,
        scale=None,
        notes=(),
    )


class _Ours:
    """Epochs as ``mil.train`` makes them."""

    def __init__(
        self, bags: Bags, train: np.ndarray, batch_size: int, device: torch.device
    ):
        raw = {"pooling": {"name": "attention"}, "hidden": [], "dropout": 0}
        config = configs.validate(TrainConfig, raw)
        torch.manual_seed(0)
        self._model = build_model(config, bags.dims, 2).to(device)
        fitted = fit_standardisation(bags, slide_moments(bags), train)
        self._batches = Batches(bags, fitted, device)
        assert bags.targets is not None
        self._targets = torch.from_numpy(bags.targets).to(device)
        self._train, self._size = train, batch_size
        # As many bags are seen in fewer steps: steps are larger by the square root.
        lr = 1e-3 * batch_size**0.5
        self._optimiser = torch.optim.Adam(self._model.parameters(), lr, fused=True)
        self._order, self._bags = np.random.default_rng(0), bags

    def epoch(self) -> None:
        """One pass over the training bags."""
        self._model.train()
        order = self._order.permutation(self._train)
        targets = self._targets[order]
        for start in range(0, len(order), self._size):
            some = slice(start, start + self._size)
            loss = self._model(*self._batches.get(order[some])).loss(targets[some])
            self._optimiser.zero_grad()
            loss.mean().backward()
            self._optimiser.step()

    def auroc(self, index: np.ndarray) -> float:
        """AUROC of bags."""
        logs = log_probabilities(self._model, self._batches, index)
        return auroc(logs.exp().numpy(), self._targets[index].cpu().numpy())


class _Plain:
    """The same model and optimiser, one bag a step, on tensors made ready before."""

    def __init__(self, bags: Bags, train: np.ndarray, device: torch.device):
        fitted = fit_standardisation(bags, slide_moments(bags), train)
        self._ready = [
            fitted(torch.from_numpy(bags.features.read(i))).to(device)
            for i in range(len(bags))
        ]
        torch.manual_seed(0)
        dim = bags.features.dim
        layers = nn.Linear(dim, 128), nn.Tanh(), nn.Linear(128, 1)
        self._score = nn.Sequential(*layers).to(device)
        self._classify = nn.Linear(dim, 1).to(device)
        parameters = [*self._score.parameters(), *self._classify.parameters()]
        self._optimiser = torch.optim.Adam(parameters, 1e-3)
        assert bags.targets is not None
        self._targets = torch.from_numpy(bags.targets).float().to(device)
        self._train, self._order = train, np.random.default_rng(0)

    def _logit(self, bag: int) -> torch.Tensor:
        h = self._ready[bag]
        a = torch.softmax(self._score(h), 0)
        return self._classify((a * h).sum(0))[0]

    def epoch(self) -> None:
        """One pass over the training bags."""
        for bag in self._order.permutation(self._train):
            loss = nn.functional.binary_cross_entropy_with_logits(
                self._logit(bag), self._targets[bag]
            )
            self._optimiser.zero_grad()
            loss.backward()
            self._optimiser.step()

    def auroc(self, index: np.ndarray) -> float:
        """AUROC of bags."""
        with torch.inference_mode():
            logits = torch.stack([self._logit(bag) for bag in index]).cpu().numpy()
        targets = self._targets[index].cpu().numpy().astype(int)
        return auroc(np.stack([-logits, logits], 1), targets)
