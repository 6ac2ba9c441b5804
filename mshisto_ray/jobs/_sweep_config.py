"""Config of a sweep: of MIL models, or of heads on tiles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import model_validator

from mshisto_ray.config import Config, InputError, OutputPath, option
from mshisto_ray.decision.config import DecisionConfig, RulesConfig
from mshisto_ray.evaluation.labelled_tiles import ANNOTATION
from mshisto_ray.learning.retraining.learning_curve import LearningCurveConfig
from mshisto_ray.learning.sweep.axes import AxesConfig
from mshisto_ray.learning.sweep.experiment import Experiment
from mshisto_ray.learning.sweep.pruning import PruningConfig
from mshisto_ray.mil.experiment import ExperimentConfig
from mshisto_ray.mil.experiment_keys import ExperimentRuntime
from mshisto_ray.runtime import Resources, WorkersRuntime
from mshisto_ray.tile_classification.head.config import TileRuntime
from mshisto_ray.tile_classification.head.experiment import TileExperiment


class SweepRuntime(ExperimentRuntime, Resources):
    """Workers, node cache and MLflow runs of a sweep."""

    pack: int | None = option(
        None,
        "configs of one shape that a worker trains at once, as one stack of models; "
        "null: as many as are faster so; 1: one after another",
        ge=1,
    )


class TileSweepRuntime(TileRuntime, Resources):
    """Workers, node cache and MLflow runs of a sweep of heads on tiles."""


class BudgetConfig(Config):
    """How long a sweep may begin configs."""

    minutes: float | None = option(
        None,
        "no config is begun after so many, those in training end; the same command "
        "resumes; null: no limit",
        unit="min",
        gt=0,
    )


class AnySweepConfig(LearningCurveConfig, AxesConfig, Experiment):
    """What the sweeps of all tasks have."""

    out: OutputPath
    budget: BudgetConfig = BudgetConfig()
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
    runtime: WorkersRuntime

    @classmethod
    def class_for(cls, raw: Mapping[str, Any]) -> type[Self]:
        """``task: tile`` has keys of its own."""
        task = raw.get("task", "mil")
        kinds: dict[Any, Any] = {"mil": SweepConfig, "tile": TileSweepConfig}
        if task not in kinds:
            raise InputError(f"task: mil (bags) or tile (heads on tiles); got {task!r}")
        return kinds[task]

    @property
    def chosen_by(self) -> str | None:
        """The metric of the target that chooses; None: none is chosen."""
        return self.kind.chooses if self.select == "auto" else self.select

    @property
    def directories_read(self) -> tuple[Path, ...]:
        """Embeddings that it reads; none of a table."""
        return ()

    @property
    def row_is(self) -> tuple[str, str]:
        """What is predicted one by one, as a fact of the page."""
        return ("a row is", "")

    @property
    def pack(self) -> int | None:
        """Configs that are trained at once; None: as many as are faster so."""
        return 1

    @property
    def decides(self) -> DecisionConfig | None:
        """What the head makes of its probabilities; None: nothing."""
        return None

    @model_validator(mode="before")
    @classmethod
    def _first_views(cls, raw: Any) -> Any:
        """Take the first value of an axis ``views`` where the key is left out."""
        axes = raw.get("axes") if isinstance(raw, Mapping) else None
        values = axes.get("views") if isinstance(axes, Mapping) else None
        known = isinstance(values, Sequence) and not isinstance(values, str)
        if known and values and not raw.get("views") and not raw.get("embeddings"):
            return {**raw, "views": values[0]}
        return raw

    @model_validator(mode="after")
    def _metric_is_of_the_target(self) -> Self:
        kind = self.kind
        known = [name for name in kind.shown if name not in kind.references]
        if self.chosen_by not in (None, *known):
            raise ValueError(
                f"select: target.kind={kind.kind} has {', '.join(known)}; got "
                f"{self.select!r}; auto: {kind.chooses}"
            )
        return self

    @model_validator(mode="after")
    def _refits_can_choose(self) -> Self:
        if self.refits and (self.chosen_by is None or not self.split_config.validation):
            raise ValueError(
                f"refits: {self.refits} choose a config by validation patients each: "
                "give split.validation=0.2 and select=auto, or refits=0"
            )
        if self.prune and (self.chosen_by is None or not self.split_config.validation):
            raise ValueError(
                "prune: decides by validation patients: give split.validation=0.2 and "
                "select=auto, or prune=null"
            )
        chooses = self.chosen_by is not None
        if self.permutations and not (chooses and self.split_config.validation):
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


class SweepConfig(AnySweepConfig, ExperimentConfig):
    """Train a MIL config at every combination of axes, and compare them."""

    task: Literal["mil"] = option("mil", "tile: heads on tiles, with their own keys")
    out: OutputPath = option(text="output directory; an unfinished one is resumed")
    runtime: SweepRuntime = SweepRuntime()  # pyright: ignore[reportIncompatibleVariableOverride]

    @property
    def directories_read(self) -> tuple[Path, ...]:
        """Of every scale or view."""
        return () if self.bags else self.directories

    @property
    def row_is(self) -> tuple[str, str]:
        """A bag."""
        return ("a bag is", "a bag of the table" if self.bags else f"a {self.unit}")

    @property
    def pack(self) -> int | None:
        """``runtime.pack``."""
        return self.runtime.pack

    @property
    def decides(self) -> DecisionConfig | None:
        """``decision``."""
        return self.decision


class TileSweepConfig(AnySweepConfig, TileExperiment):
    """Train a head on tiles at every combination of axes, and compare them."""

    task: Literal["tile"] = option("tile", "mil: bags, with their own keys")
    out: OutputPath = option(text="output directory; an unfinished one is resumed")
    decision: RulesConfig = RulesConfig()
    runtime: TileSweepRuntime = TileSweepRuntime()  # pyright: ignore[reportIncompatibleVariableOverride]

    @property
    def decides(self) -> DecisionConfig | None:
        """``decision``, of tiles; None where it is that of the largest probability."""
        decision = self.decision.for_tiles
        return None if decision.is_neutral else decision

    @property
    def directories_read(self) -> tuple[Path, ...]:
        """Of every view."""
        return self.sources

    @property
    def row_is(self) -> tuple[str, str]:
        """A tile, and where its class comes from."""
        if self.target.table:
            source = f"the table {self.target.table.name}"
        elif self.target.column == ANNOTATION:
            source = "its annotation"
        else:
            source = f"the column {self.target.column} of the cohort"
        return ("a row is", f"a tile; its class is from {source}")


Sweep = SweepConfig | TileSweepConfig
