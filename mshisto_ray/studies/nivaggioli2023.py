"""Nivaggioli 2023: encoders chosen by a proxy task; heads against a trained network."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from mshisto_ray import config as configs
from mshisto_ray.config import InputError
from mshisto_ray.studies import _study
from mshisto_ray.studies._nivaggioli2023_table import (
    FINETUNED,
    PROXY,
    TablePlan,
    head_name,
    render,
)
from mshisto_ray.studies._study import StudyUnit, UnitResult
from mshisto_ray.studies._tile_task import Arm, TileTask

_NETWORK = "finetune.yaml"


class NivaggioliStudy:
    """A unit is a task and an arm of it, or a fold of its trained network."""

    def __init__(self, data: Path, plan: TablePlan):
        self._plan = plan
        self._tasks = {name: TileTask(data / name) for name in plan.tasks}
        for name in {plan.proxy, plan.second}:
            if name not in self._tasks:
                raise InputError(
                    f"study: {name!r} is none of study.tasks: {', '.join(plan.tasks)}"
                )
        self._network: dict[str, Any] = {}
        if plan.deep:
            if not (data / _NETWORK).is_file():
                raise InputError(
                    f"data: no {_NETWORK} in {data}, keys of jobs/finetune.py for the "
                    "fully trained network; or give study.deep=[]"
                )
            self._network = configs.read_yaml(data / _NETWORK)

    def units(self) -> list[StudyUnit]:
        """Heads first: they take seconds, the trained networks minutes."""
        plan, found = self._plan, []
        for encoder in plan.encoders:
            arm = Arm(encoder, False, (), plan.sigmas[-1])
            found.append(self._head(plan.proxy, arm, PROXY))
            arm = Arm(encoder, False, (plan.hidden,), plan.sigmas[-1])
            found.append(self._head(plan.second, arm))
        for name, task in self._tasks.items():
            for multi in (False, True):
                if multi and task.config.context is None:
                    continue
                for sigma in plan.sigmas:
                    arm = Arm(plan.encoder, multi, (plan.hidden,), sigma)
                    found.append(self._head(name, arm))
        deep = [self._deep(name, i) for name in plan.deep for i in self._folds(name)]
        known = {unit.name: unit for unit in [*found, *deep]}
        return list(known.values())

    def _head(self, name: str, arm: Arm, kind: str = "") -> StudyUnit:
        task = self._tasks[name]
        return StudyUnit(
            head_name(name, arm.encoder, arm.multi, arm.sigma, kind),
            task.head_recipe(arm) | {"encoder": arm.encoder, "multi": arm.multi},
            functools.partial(task.run_head, arm),
        )

    def _arm(self) -> Arm:
        """Of which the tiles and folds are taken."""
        return Arm(self._plan.encoder, False, (), 0.0)

    def _folds(self, name: str) -> list[int]:
        return self._tasks[name].numbers(self._arm())

    def _deep(self, name: str, number: int) -> StudyUnit:
        task, arm = self._tasks[name], self._arm()
        recipe = {"network": task.finetune_recipe(arm, self._network, number)}
        return StudyUnit(
            f"{name}.{FINETUNED}-{number}",
            recipe,
            functools.partial(task.run_finetuning, arm, self._network, number),
        )

    def table(self, done: Mapping[str, UnitResult]) -> str:
        """Tables 1, 3, 4 and 5 in the paper's layout, with intervals."""
        return render(self._plan, done)


def build(
    data: Path,
    *,
    tasks: tuple[str, ...] = ("organ", "lung", "lymphoid", "node", "sign", "relation"),
    encoders: tuple[str, ...] = ("mobilenetv2", "gleason", "colour", "random"),
    encoder: str = "mobilenetv2",
    proxy: str = "organ",
    second: str = "node",
    deep: tuple[str, ...] = ("organ", "lymphoid", "node", "sign"),
    sigmas: Annotated[tuple[float, ...], Field(min_length=2)] = (0.0, 0.1, 0.5),
    hidden: Annotated[int, Field(ge=1)] = 256,
) -> _study.Study:
    """Run the paper's comparisons on folders of tiles.

    ``tasks``: folders of ``data`` (see ``TaskConfig``); ``encoders``: names of their
    embeddings; ``encoder``: the one of tables 3 and 5; ``proxy``: the task of table 1,
    ``second`` of table 4; ``deep``: tasks on which the network of ``finetune.yaml`` is
    trained; ``sigmas``: noise of table 5, none first, the last one in other tables;
    ``hidden``: width of the head's layer (the proxy's has none).
    """  # fmt: skip
    plan = TablePlan(tasks, encoders, encoder, proxy, second, deep, sigmas, hidden)
    absent = sorted(set(deep) - set(tasks))
    if absent:
        raise InputError(f"study.deep: {absent[0]!r} is none of study.tasks")
    if encoder not in encoders or sigmas[0] != 0:
        raise InputError(
            "study: encoder is one of encoders, and the first of sigmas is 0"
        )
    return NivaggioliStudy(data, plan)
