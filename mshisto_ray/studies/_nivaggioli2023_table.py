"""Tables 1, 3, 4 and 5 of Nivaggioli 2023, from the units that are done."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mshisto_ray.learning.predictions import concatenate
from mshisto_ray.studies import _study
from mshisto_ray.studies._nivaggioli2023_measured import Measured, difference, measure
from mshisto_ray.studies._study import UnitResult
from mshisto_ray.studies._tile_task import Regular

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
    deep: tuple[str, ...]
    sigma: float
    noise_tasks: tuple[str, ...]
    noises: tuple[str, ...]
    sigmas: tuple[float, ...]
    decays: tuple[float, ...]
    hidden: int

    @property
    def usual(self) -> Regular:
        """Of every table but the fifth."""
        return Regular(self.sigma)

    @property
    def regulars(self) -> list[Regular]:
        """Of table 5: nothing, then noises, then weight decay."""
        noise = [Regular(s, name) for name in self.noises for s in self.sigmas]
        return [Regular(0.0), *noise, *(Regular(0.0, decay=d) for d in self.decays)]


@dataclass(frozen=True)
class _Arms:
    """Units that are done, and what was measured of them: bootstraps take seconds."""

    units: Mapping[str, UnitResult]
    measured: dict[tuple[str, ...], Measured]

    def head(self, name: str) -> Measured | None:
        """An arm's head."""
        if name not in self.units:
            return None
        seconds = self.units[name].extras["head_cpu_s"]
        return self._measure([name], seconds, float("nan"))

    def deep(self, task: str) -> Measured | None:
        """The networks of the folds that are done."""
        names = sorted(n for n in self.units if n.startswith(f"{task}.{FINETUNED}-"))
        if not names:
            return None
        extras = [self.units[name].extras for name in names]
        seconds = sum(e["train_cpu_s"] for e in extras)
        embedding = float(np.mean([e["embed_cpu_s"] for e in extras]))
        return self._measure(names, seconds, embedding)

    def _measure(
        self, names: Sequence[str], seconds: float, embedding: float
    ) -> Measured:
        key = tuple(names)
        if key not in self.measured:
            parts = concatenate([self.units[name].predictions for name in names])
            self.measured[key] = measure(parts, seconds, embedding)
        return self.measured[key]


def head_name(
    task: str, encoder: str, multi: bool, regular: Regular, kind: str = ""
) -> str:
    """The name of a head's unit."""
    views = kind or ("multi" if multi else "single")
    noise = f"-{regular.noise}" * (regular.noise != "gaussian")
    decay = f"-decay{regular.decay:g}" if regular.decay else ""
    return f"{task}.{encoder}-{views}{noise}-{regular.sigma:g}{decay}"


def render(
    plan: TablePlan,
    units: Mapping[str, UnitResult],
    measured: dict[tuple[str, ...], Measured] | None = None,
) -> str:
    """All tables; rows whose units are not done are left empty.

    ``measured``: of units, from a former call; what is new is added.
    """
    done = _Arms(units, {} if measured is None else measured)
    parts = [
        f"Table 1, backbones on the proxy task {plan.proxy!r}",
        _table_1(plan, done),
        "Table 3, heads on embeddings against the fully trained network",
        _table_3(plan, done),
        "Table 4, backbones on other tasks",
        _table_4(plan, done),
        "Table 5, noise on embeddings, and weight decay",
        _table_5(plan, done),
    ]
    return "\n".join(parts)


def _table_1(plan: TablePlan, done: _Arms) -> str:
    arms = {
        name: done.head(head_name(plan.proxy, name, False, plan.usual, PROXY))
        for name in plan.encoders
    }
    arms |= {"fully trained": done.deep(plan.proxy)} if plan.deep else {}
    rows = _against(arms, plan.encoder, _FIRST, "balanced_accuracy")
    columns = ["backbone", "balanced accuracy", "kappa", "weighted F1"]
    return _study.markdown([*columns, "sd", f"from {plan.encoder}"], rows)


def _table_3(plan: TablePlan, done: _Arms) -> str:
    rows = []
    for task in plan.tasks:
        deep = done.deep(task)
        arms = {"fully trained": deep} if task in plan.deep else {}
        for multi, label in ((False, "head, single zoom"), (True, "head, multi zoom")):
            name = head_name(task, plan.encoder, multi, plan.usual)
            if not multi or name in done.units:
                arms[label] = done.head(name)
        for label, arm in arms.items():
            other = arms["head, single zoom"] if label.endswith("multi zoom") else deep
            paired = "" if arm is deep else difference(arm, other, "pr_auc")
            cells = [*_cells(arm, _THREE), _spread(arm, "pr_auc"), paired]
            rows.append([task, label, *cells, *_cost(arm, deep)])
    header = [
        "task", "method", "precision", "recall", "PR-AUC", "sd",
        "PR-AUC from the row above", "training, CPU s", "embedding, CPU s",
        "trained network / head",
    ]  # fmt: skip
    return _study.markdown(header, rows)


def _table_4(plan: TablePlan, done: _Arms) -> str:
    """At all zooms that a task has."""
    rows = []
    for task in plan.tasks:
        if task == plan.proxy:
            continue
        multi = any(
            head_name(task, e, True, plan.usual) in done.units for e in plan.encoders
        )
        arms = {
            name: done.head(head_name(task, name, multi, plan.usual))
            for name in plan.encoders
        }
        found = _against(arms, plan.encoder, _THREE, "pr_auc")
        rows += [[task, *row] for row in found]
    columns = ["task", "backbone", "precision", "recall", "PR-AUC"]
    return _study.markdown([*columns, "sd", f"from {plan.encoder}"], rows)


def _table_5(plan: TablePlan, done: _Arms) -> str:
    """At all zooms that a task has."""
    rows = []
    for task in plan.noise_tasks:
        label, names = "single zoom", plan.regulars
        if any(head_name(task, plan.encoder, True, r) in done.units for r in names):
            label = "multi zoom"
        multi = label == "multi zoom"
        arms = {
            regular: done.head(head_name(task, plan.encoder, multi, regular))
            for regular in names
        }
        for regular, arm in arms.items():
            paired = difference(arm, arms[names[0]], "pr_auc")
            cells = [*_cells(arm, _THREE), _spread(arm, "pr_auc"), paired]
            rows.append([task, label, _named(regular), *cells])
    columns = ["task", "method", "noise", "precision", "recall", "PR-AUC"]
    return _study.markdown([*columns, "sd", "from none"], rows)


def _named(regular: Regular) -> str:
    if regular.decay:
        return f"none, weight decay {regular.decay:g}"
    return f"{regular.noise} {regular.sigma:g}" if regular.sigma else "none"


def _cells(arm: Measured | None, names: Sequence[str]) -> list[str]:
    if arm is None:
        return [""] * len(names)
    return [_study.cell(arm.metrics.interval(name)) for name in names]


def _spread(arm: Measured | None, metric: str) -> str:
    return "" if arm is None else _study.short(arm.spread[metric])


def _against(
    arms: Mapping[str, Measured | None],
    reference: str,
    metrics: Sequence[str],
    metric: str,
) -> list[list[str]]:
    """A row an arm: its metrics, and ``metric`` less that of one of them, paired."""
    return [
        [
            name,
            *_cells(arm, metrics),
            _spread(arm, metric),
            difference(arm, arms[reference], metric),
        ]
        for name, arm in arms.items()
    ]


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
