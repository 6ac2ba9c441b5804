"""Tables 1, 3, 4 and 5 of Nivaggioli 2023, from the units that are done."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mshisto_ray.learning.predictions import Predictions, concatenate
from mshisto_ray.learning.tile_metrics import TileMetrics, tile_metrics
from mshisto_ray.statistics.bootstrap import Interval, percentile_interval
from mshisto_ray.studies import _study
from mshisto_ray.studies._study import UnitResult

FINETUNED, PROXY = "finetuned", "proxy"
_FIRST = ("balanced_accuracy", "kappa", "weighted_f1")
_THREE = ("precision", "recall", "pr_auc")


@dataclass(frozen=True)
class TablePlan:
    """Settings of the study; see its ``build``."""

    tasks: tuple[str, ...]
    encoders: tuple[str, ...]
    encoder: str
    proxy: str
    second: str
    deep: tuple[str, ...]
    sigmas: tuple[float, ...]
    hidden: int


@dataclass(frozen=True)
class Measured:
    """Metrics of an arm on a task, and its tiles in the order of their names.

    ``seconds``: CPU time of its training; ``embedding``: of reading and embedding all
    tiles of the task; NaN where it was not measured.
    """

    metrics: TileMetrics
    tiles: tuple[str, ...]
    seconds: float
    embedding: float


def head_name(task: str, encoder: str, multi: bool, sigma: float, kind: str) -> str:
    """The name of a head's unit."""
    views = kind or ("multi" if multi else "single")
    return f"{task}.{encoder}-{views}-{sigma:g}"


def render(plan: TablePlan, done: Mapping[str, UnitResult]) -> str:
    """All tables; rows whose units are not done are left empty."""
    parts = [
        f"Table 1, backbones on the proxy task {plan.proxy!r}",
        _table_1(plan, done),
        "Table 3, heads on embeddings against the fully trained network",
        _table_3(plan, done),
        f"Table 4, backbones on {plan.second!r}",
        _table_4(plan, done),
        "Table 5, Gaussian noise on embeddings",
        _table_5(plan, done),
    ]
    return "\n".join(parts)


def _table_1(plan: TablePlan, done: Mapping[str, UnitResult]) -> str:
    arms = {
        name: _head(done, head_name(plan.proxy, name, False, plan.sigmas[-1], PROXY))
        for name in plan.encoders
    }
    arms |= {"fully trained": _deep(plan.proxy, done)}
    rows = _from_the_best(arms, _FIRST, "balanced_accuracy")
    header = ["backbone", "balanced accuracy", "kappa", "weighted F1", "from the best"]
    return _study.markdown(header, rows)


def _table_3(plan: TablePlan, done: Mapping[str, UnitResult]) -> str:
    rows = []
    for task in plan.tasks:
        deep = _deep(task, done)
        arms = {"fully trained": deep} if task in plan.deep else {}
        for multi, label in ((False, "head, single zoom"), (True, "head, multi zoom")):
            name = head_name(task, plan.encoder, multi, plan.sigmas[-1], "")
            if not multi or name in done:
                arms[label] = _head(done, name)
        for label, arm in arms.items():
            other = arms["head, single zoom"] if label.endswith("multi zoom") else deep
            paired = "" if arm is deep else _difference(arm, other, "pr_auc")
            cells = [*_cells(arm, _THREE), paired, *_cost(arm, deep)]
            rows.append([task, label, *cells])
    header = [
        "task", "method", "precision", "recall", "PR-AUC", "PR-AUC from the row above",
        "training, CPU s", "embedding, CPU s", "trained network / head",
    ]  # fmt: skip
    return _study.markdown(header, rows)


def _table_4(plan: TablePlan, done: Mapping[str, UnitResult]) -> str:
    arms = {
        name: _head(done, head_name(plan.second, name, False, plan.sigmas[-1], ""))
        for name in plan.encoders
    }
    rows = _from_the_best(arms, _THREE, "pr_auc")
    header = ["backbone", "precision", "recall", "PR-AUC", "from the best"]
    return _study.markdown(header, rows)


def _table_5(plan: TablePlan, done: Mapping[str, UnitResult]) -> str:
    rows = []
    for task in plan.tasks:
        for multi, label in ((False, "single zoom"), (True, "multi zoom")):
            names = [head_name(task, plan.encoder, multi, s, "") for s in plan.sigmas]
            if multi and not any(name in done for name in names):
                continue
            arms = [_head(done, name) for name in names]
            for sigma, arm in zip(plan.sigmas, arms, strict=True):
                paired = _difference(arm, arms[0], "pr_auc") if sigma else ""
                noise = f"{sigma:g}" if sigma else "none"
                rows.append([task, label, noise, *_cells(arm, _THREE), paired])
    header = ["task", "method", "noise", "precision", "recall", "PR-AUC", "from none"]
    return _study.markdown(header, rows)


def _head(done: Mapping[str, UnitResult], name: str) -> Measured | None:
    if name not in done:
        return None
    unit = done[name]
    return _measure(unit.predictions, unit.extras["head_cpu_s"], float("nan"))


def _deep(task: str, done: Mapping[str, UnitResult]) -> Measured | None:
    """The networks of the folds that are done."""
    folds = [
        unit
        for name, unit in sorted(done.items())
        if name.startswith(f"{task}.{FINETUNED}-")
    ]
    if not folds:
        return None
    seconds = sum(unit.extras["train_cpu_s"] for unit in folds)
    embedding = float(np.mean([unit.extras["embed_cpu_s"] for unit in folds]))
    return _measure(concatenate([u.predictions for u in folds]), seconds, embedding)


def _measure(found: Predictions, seconds: float, embedding: float) -> Measured:
    found = found.take(np.argsort(found.bag.astype(str), kind="stable"))
    group = np.unique(found.patient_id.astype(str), return_inverse=True)[1]
    metrics = tile_metrics(found.probabilities, found.target, group)
    return Measured(metrics, tuple(found.bag.tolist()), seconds, embedding)


def _cells(arm: Measured | None, names: Sequence[str]) -> list[str]:
    if arm is None:
        return [""] * len(names)
    return [_study.cell(arm.metrics.interval(name)) for name in names]


def _best(arms: Mapping[str, Measured | None], metric: str) -> str | None:
    known = {n: a.metrics.values[metric] for n, a in arms.items() if a is not None}
    return max(known, key=known.__getitem__) if known else None


def _from_the_best(
    arms: Mapping[str, Measured | None], metrics: Sequence[str], metric: str
) -> list[list[str]]:
    """A row an arm: its metrics, and ``metric`` less that of the best, paired."""
    best = _best(arms, metric)
    return [
        [
            name,
            *_cells(arm, metrics),
            _difference(arm, arms[best], metric) if best else "",
        ]
        for name, arm in arms.items()
    ]


def _difference(one: Measured | None, other: Measured | None, metric: str) -> str:
    """One less the other with a 95 % interval, paired on draws of groups.

    Empty where one of them is not done, or they are of other tiles. The
    difference alone where groups are too few for an interval of the metric.
    """
    if one is None or other is None or one is other or one.tiles != other.tiles:
        return ""
    value = one.metrics.values[metric] - other.metrics.values[metric]
    if np.isnan(one.metrics.interval(metric).low):
        return _signed(value)
    draws = one.metrics.replicates[metric] - other.metrics.replicates[metric]
    found: Interval = percentile_interval(value, draws)
    return f"{_signed(found.value)} ({_signed(found.low)} to {_signed(found.high)})"


def _signed(value: float) -> str:
    return _study.short(value).replace("-0.", "-.")


def _cost(arm: Measured | None, deep: Measured | None) -> list[str]:
    if arm is None:
        return ["", "", ""]
    cells = [f"{arm.seconds:.1f}"]
    if arm is deep or deep is None:
        return [*cells, "", ""]
    ratio = deep.seconds / arm.seconds
    whole = deep.seconds / (arm.seconds + deep.embedding)
    return [
        *cells,
        f"{deep.embedding:.1f}",
        f"{ratio:.0f} ({whole:.1f} with embedding)",
    ]
