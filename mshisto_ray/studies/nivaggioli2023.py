"""Nivaggioli 2023: encoders chosen by a proxy task; heads against a trained network."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from mshisto_ray import config as configs
from mshisto_ray.components import Part
from mshisto_ray.config import InputError
from mshisto_ray.representation.noises import FAMILY as NOISES
from mshisto_ray.studies import _study
from mshisto_ray.studies._nivaggioli2023_measured import Measured
from mshisto_ray.studies._nivaggioli2023_table import (
    FINETUNED,
    PROXY,
    TablePlan,
    head_name,
    render,
)
from mshisto_ray.studies._study import StudyUnit, UnitResult
from mshisto_ray.studies._tile_task import Arm, Regular, TileTask

_NETWORK = "finetune.yaml"


class NivaggioliStudy:
    """A unit is a task and an arm of it, or a fold of its trained network."""

    def __init__(self, data: Path, plan: TablePlan):
        self._plan = plan
        self._tasks = {name: TileTask(data / name) for name in plan.tasks}
        self._measured: dict[tuple[str, ...], Measured] = {}
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
            arm = Arm(encoder, False, (), plan.usual)
            found.append(self._head(plan.proxy, arm, PROXY))
        for name in plan.tasks:
            for encoder in plan.encoders if name != plan.proxy else (plan.encoder,):
                found.append(self._zoom(name, encoder, self._has_context(name)))
            found.append(self._zoom(name, plan.encoder, False))
        for name in plan.noise_tasks:
            multi = self._has_context(name)
            for regular in plan.regulars:
                arm = Arm(plan.encoder, multi, (plan.hidden,), regular)
                found.append(self._head(name, arm))
        deep = [self._deep(name, i) for name in plan.deep for i in self._folds(name)]
        known = {unit.name: unit for unit in [*found, *deep]}
        return list(known.values())

    def _has_context(self, name: str) -> bool:
        return self._tasks[name].config.context is not None

    def _zoom(self, name: str, encoder: str, multi: bool) -> StudyUnit:
        """A head with the usual noise."""
        plan = self._plan
        return self._head(name, Arm(encoder, multi, (plan.hidden,), plan.usual))

    def _head(self, name: str, arm: Arm, kind: str = "") -> StudyUnit:
        task = self._tasks[name]
        return StudyUnit(
            head_name(name, arm.encoder, arm.multi, arm.regular, kind),
            task.head_recipe(arm) | {"encoder": arm.encoder, "multi": arm.multi},
            functools.partial(task.run_head, arm),
        )

    def _arm(self) -> Arm:
        """Of which the tiles and folds are taken."""
        return Arm(self._plan.encoder, False, (), Regular(0.0))

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
        return render(self._plan, done, self._measured)


def build(
    data: Path,
    *,
    tasks: tuple[str, ...] = ("node", "lymphoid", "lung", "organ", "sign", "relation"),
    encoders: tuple[str, ...] = (
        "mobilenetv2",
        "pretrained",
        "untrained",
        "gleason",
        "colour",
        "random",
    ),
    encoder: str = "mobilenetv2",
    proxy: str = "node",
    deep: tuple[str, ...] = ("lymphoid", "sign", "node", "relation"),
    sigma: Annotated[float, Field(gt=0)] = 0.5,
    noise_tasks: tuple[str, ...] = ("sign", "relation"),
    noises: tuple[str, ...] = ("gaussian", "covariance"),
    sigmas: tuple[Annotated[float, Field(gt=0)], ...] = (0.1, 0.5, 1.0),
    decays: tuple[Annotated[float, Field(gt=0)], ...] = (0.01, 0.1),
    hidden: Annotated[int, Field(ge=1)] = 256,
) -> _study.Study:
    """Run the paper's comparisons on folders of tiles.

    ``tasks``: folders of ``data`` (see ``TaskConfig``); ``encoders``: names of their
    embeddings; ``encoder``: the one of tables 3 and 5; ``proxy``: the task of table 1,
    the others are of table 4; ``deep``: tasks on which the network of
    ``finetune.yaml`` is trained; ``sigma``: of the Gaussian noise outside table 5,
    which compares ``noises`` of strengths ``sigmas`` and weight ``decays`` without
    noise on ``noise_tasks``; ``hidden``: width of the head's layer (the proxy's has
    none). Seeds are the repeats of a task's split.
    """  # fmt: skip
    plan = TablePlan(
        tasks, encoders, encoder, proxy, deep, sigma, noise_tasks, noises, sigmas,
        decays, hidden,
    )  # fmt: skip
    keys = {"deep": deep, "noise_tasks": noise_tasks, "proxy": (proxy,)}
    for key, names in keys.items():
        for name in names:
            if name not in tasks:
                raise InputError(
                    f"study.{key}: {name!r} is none of study.tasks: {', '.join(tasks)}"
                )
    if encoder not in encoders:
        raise InputError("study: encoder is one of encoders")
    for name in noises:
        part = Part.model_validate({"name": name, "sigma": 1.0})
        _study.check_part(NOISES, part, "study.noises")
    return NivaggioliStudy(data, plan)
