"""Config of a sweep."""

from __future__ import annotations

from pydantic import model_validator

from mshisto_ray.config import Config, OutputPath, option
from mshisto_ray.mil.axes import AxesConfig
from mshisto_ray.mil.experiment import ExperimentConfig, ExperimentRuntime
from mshisto_ray.mil.learning_curve import LearningCurveConfig
from mshisto_ray.mil.pruning import PruningConfig
from mshisto_ray.runtime import Resources


class SweepRuntime(ExperimentRuntime, Resources):
    """Workers, node cache and MLflow runs of a sweep."""


class BudgetConfig(Config):
    """How long a sweep may begin configs."""

    minutes: float | None = option(
        None,
        "no config is begun after so many, those in training end; the same command "
        "goes on; null: no limit",
        unit="min",
        gt=0,
    )


class SweepConfig(AxesConfig, LearningCurveConfig, ExperimentConfig):
    """Train a MIL config at every combination of axes, and compare them."""

    out: OutputPath = option(text="output directory; an unfinished one is resumed")
    refits: int = option(
        0,
        "redraws of the patients on which every config is trained and one is chosen "
        "anew, for an interval that includes both; 20 or more, 0: none",
        ge=0,
    )
    permutations: int = option(
        0,
        "times that patients exchange their labels, all configs are trained and one is "
        "chosen anew, for the p of the chosen one; 99 or more, 0: none",
        ge=0,
    )
    prune: PruningConfig | None = option(
        None, "null: every config trains all its models"
    )
    budget: BudgetConfig = BudgetConfig()
    runtime: SweepRuntime = SweepRuntime()  # pyright: ignore[reportIncompatibleVariableOverride]

    @property
    def chosen_by(self) -> str | None:
        """The metric of the target that chooses; None: none is chosen."""
        return self.target.build().chooses if self.select == "auto" else self.select

    @model_validator(mode="after")
    def _metric_is_of_the_target(self) -> SweepConfig:
        target = self.target.build()
        if self.chosen_by not in (None, *target.shown):
            raise ValueError(
                f"select: target.kind={target.kind} has {', '.join(target.shown)}; got "
                f"{self.select!r}; auto: {target.chooses}"
            )
        if self.refits and (self.chosen_by is None or not self.split.validation):
            raise ValueError(
                f"refits: {self.refits} choose a config by validation patients each: "
                "give split.validation=0.2 and select=auto, or refits=0"
            )
        if self.prune and (self.chosen_by is None or not self.split.validation):
            raise ValueError(
                "prune: decides by validation patients: give split.validation=0.2 and "
                "select=auto, or prune=null"
            )
        chooses = self.chosen_by is not None
        if self.permutations and not (chooses and self.split.validation):
            raise ValueError(
                f"permutations: {self.permutations} choose a config by validation "
                "patients each: give split.validation=0.2 and select=auto, or "
                "permutations=0"
            )
        if self.learning_curve and not chooses:
            raise ValueError(
                "learning_curve: is of the chosen config, and select=null chooses "
                "none: give select=auto, or learning_curve=[]"
            )
        if self.refits == 1:
            raise ValueError("refits: one does not vary; give 20 or more, or 0")
        return self
