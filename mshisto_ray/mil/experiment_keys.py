"""The keys of a MIL experiment, checked together."""

from __future__ import annotations

from pydantic import model_validator

from mshisto_ray import components
from mshisto_ray.config import option
from mshisto_ray.decision.config import DecisionConfig
from mshisto_ray.learning.target_split import GroupedSplitConfig
from mshisto_ray.learning.targets import TargetConfig
from mshisto_ray.mil.fit.config import TrainConfig
from mshisto_ray.mil.input.config import InputConfig
from mshisto_ray.mil.model import COMBINATIONS, POOLINGS
from mshisto_ray.runtime import Runtime
from mshisto_ray.store.cache import CacheConfig


class ExperimentRuntime(Runtime):
    """Node cache and MLflow runs of an experiment."""

    cache: CacheConfig = CacheConfig()


class ExperimentKeys(TrainConfig, InputConfig):
    """Bags, target, split, model and training: everything that decides a result."""

    target: TargetConfig = option(TargetConfig(), "what is predicted")
    split: GroupedSplitConfig = GroupedSplitConfig()
    decision: DecisionConfig = DecisionConfig()
    refit: bool = option(False, "train one more model on all bags, for new patients")
    runtime: ExperimentRuntime = ExperimentRuntime()

    @model_validator(mode="after")
    def _target_can_be_learned(self) -> ExperimentKeys:
        target = self.target.build()
        self.decision.check_target(target)
        name = self.pooling.name
        needs = components.declaration(POOLINGS, name, "NEEDS_CLASSES", False)
        if needs and not target.of_classes:
            closed = components.declarations(POOLINGS, "NEEDS_CLASSES")
            others = [n for n in components.available(POOLINGS) if n not in closed]
            raise ValueError(
                f"pooling: {name} gives probabilities of classes, so it cannot learn "
                f"target.kind={target.kind}; take {', '.join(others)}"
            )
        if self.draws == "balanced" and not target.of_classes:
            raise ValueError(
                f"draws: balanced is of classes, and target.kind={target.kind}: "
                "leave it out"
            )
        stopping = self.early_stopping
        if stopping and stopping.metric not in ("loss", target.chooses):
            raise ValueError(
                f"early_stopping.metric: target.kind={target.kind} has loss and "
                f"{target.chooses}, got {stopping.metric!r}"
            )
        return self

    @model_validator(mode="after")
    def _scales_are_combined(self) -> ExperimentKeys:
        takes_one = components.declaration(
            COMBINATIONS, self.combine.name, "ONE_SCALE", False
        )
        if takes_one != (self.scales is None):
            one = components.declarations(COMBINATIONS, "ONE_SCALE")
            others = [n for n in components.available(COMBINATIONS) if n not in one]
            raise ValueError(
                f"combine: {' and '.join(one)} takes one scale (scale); "
                f"{' and '.join(others)} take several (scales, as [2.0, 1.0]); got "
                f"combine={self.combine.name}, scales={self.scales}"
            )
        return self
