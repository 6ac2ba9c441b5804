"""Models of ten folds trained at once, against one of them and one after another."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from mshisto_ray import config as configs
from mshisto_ray.jobs.benchmarks._benchmark import Measure, interleaved
from mshisto_ray.jobs.benchmarks._made_bags import bags_of
from mshisto_ray.mil.fit.config import TrainConfig
from mshisto_ray.mil.fit.fold import fit_fold
from mshisto_ray.mil.fit.fold_model import FoldTask, count_steps
from mshisto_ray.mil.fit.standardisation import fit_standardisation, slide_moments
from mshisto_ray.mil.fit.together import fit_together
from mshisto_ray.mil.input.bags import Bags

_CPU = torch.device("cpu")
_FOLDS, _EPOCHS, _DIM = 10, 5, 166
# How many bags of MUSK1 have so many instances.
_MUSK1 = {2: 32, 3: 4, 4: 31, 5: 6, 6: 2, 8: 11, 9: 2, 16: 1, 32: 1, 40: 2}
_VALIDATED = 5  # one in so many training bags


def measure_folds(repeats: int) -> dict[str, Measure]:
    """Ratios of CPU time on bags of MUSK1's sizes, a bag a step, 256 hidden units.

    ``of_one``: all folds against one; ``validated``: the same with a look at validation
    bags after every epoch; ``ratio``: one after another against at once;
    ``plain_ratio``: plain torch, one after another, against at once.
    """
    bags = _make_bags()
    found: dict[str, Measure] = {}
    for stopping, name in ((None, "of_one"), ({"patience": _EPOCHS}, "validated")):
        raw = {
            "pooling": {"name": "attention"},
            "epochs": _EPOCHS,
            "early_stopping": stopping,
        }
        config = configs.validate(TrainConfig, raw)
        tasks = _tasks(bags, config)

        def together(c: TrainConfig = config, t: list[FoldTask] = tasks) -> None:
            fit_together(bags, t, c, lambda done: None)

        def one(c: TrainConfig = config, t: list[FoldTask] = tasks) -> None:
            fit_fold(bags, t[0], c, _CPU)

        def apart(c: TrainConfig = config, t: list[FoldTask] = tasks) -> None:
            for task in t:
                fit_fold(bags, task, c, _CPU)

        def plain(t: list[FoldTask] = tasks) -> None:
            for task in t:
                _fit_plainly(bags, task)

        ways = {"together": together, "one": one}
        if stopping is None:
            ways |= {"apart": apart, "plain": plain}
        for way in (together, one):  # the first pays for memory
            way()
        seconds = interleaved(ways, repeats)

        def ratio(of: str, to: str, s: dict[str, np.ndarray] = seconds) -> float:
            return float(np.median(s[of] / s[to]))

        least = {"target": 3.0, "sense": "at most"}
        of_one = Measure(ratio("together", "one"), "x", **least)  # pyright: ignore[reportArgumentType]
        found[f"mil.ten_folds.{name}"] = of_one
        if stopping is None:
            values = {"ratio": "apart", "plain_ratio": "plain"}
            for key, way in values.items():
                value = ratio(way, "together")
                found[f"mil.ten_folds.{key}"] = Measure(value, "x", target=3.0)
    return found


def _tasks(bags: Bags, config: TrainConfig) -> list[FoldTask]:
    slides, everything, tasks = slide_moments(bags), np.arange(len(bags)), []
    for fold in range(_FOLDS):
        train = everything[everything % _FOLDS != fold]
        validation = train[:0]
        if config.early_stopping:
            validation, train = (
                train[::_VALIDATED],
                np.delete(train, slice(None, None, _VALIDATED)),
            )
        fitted = fit_standardisation(bags, slides, train)
        steps = count_steps(len(train), config)
        tasks.append(FoldTask(fitted, train, validation, (0, fold), steps))
    return tasks


class _PlainModel(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.transform = nn.Sequential(
            nn.Linear(_DIM, 256), nn.ReLU(), nn.Dropout(0.25)
        )
        self.score = nn.Sequential(nn.Linear(256, 128), nn.Tanh(), nn.Linear(128, 1))
        self.classify = nn.Linear(256, 1)

    def forward(self, bag: torch.Tensor) -> torch.Tensor:
        h = self.transform(bag)
        return self.classify(torch.softmax(self.score(h), 0).T @ h)[0, 0]


def _fit_plainly(bags: Bags, task: FoldTask) -> None:
    """Train one model as ``fit_fold`` does, by hand: a loop over tensors."""
    assert bags.targets is not None
    ready = {
        i: task.standardisation(torch.from_numpy(bags.features.read(i)))
        for i in task.train
    }
    targets = torch.from_numpy(bags.targets).float()
    model = _PlainModel()
    optimiser = torch.optim.Adam(
        model.parameters(), 1e-3, weight_decay=1e-5, fused=True
    )
    order = np.random.default_rng(0)
    for _ in range(_EPOCHS):
        for bag in order.permutation(task.train):
            given = model(ready[bag]), targets[bag]
            loss = nn.functional.binary_cross_entropy_with_logits(*given)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()


def _make_bags() -> Bags:
    """Bags of MUSK1's sizes in random order; a positive one has a shifted instance."""
    rng = np.random.default_rng(0)
    sizes = rng.permutation(np.repeat(list(_MUSK1), list(_MUSK1.values())))
    ends = np.concatenate([[0], sizes.cumsum()]).astype(np.int64)
    values = rng.standard_normal((ends[-1], _DIM), dtype=np.float32)
    targets = np.arange(len(sizes)) // 2 % 2
    values[ends[:-1][targets == 1], :8] += 2
    return bags_of(values, ends, targets)
