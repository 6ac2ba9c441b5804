"""Configuration of what a head decides."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import model_validator

from mshisto_ray.config import Config, InputError, option
from mshisto_ray.learning.targets import Target

HALF = 0.5
_OF_TWO = ("platt", "isotonic")


class ThresholdConfig(Config):
    """From which probability of the second of two classes on a bag is called so."""

    policy: Literal["fixed", "youden", "sensitivity", "specificity"] = option(
        "fixed",
        "fixed: at value; chosen on validation: youden, of the largest sensitivity + "
        "specificity; sensitivity or specificity of at least value",
    )
    value: float | None = option(
        None,
        "fixed: a probability, null: 0.5; sensitivity, specificity: the share wanted",
        gt=0,
        lt=1,
    )

    @model_validator(mode="after")
    def _value_suits_the_policy(self) -> ThresholdConfig:
        wants = self.policy in ("sensitivity", "specificity")
        if wants and self.value is None:
            raise ValueError(f"value: give the {self.policy} wanted, as 0.95")
        if self.policy == "youden" and self.value is not None:
            raise ValueError("value: youden takes none; leave it null")
        return self

    @property
    def is_neutral(self) -> bool:
        """Whether it is that of the most probable class."""
        return self.policy == "fixed" and self.value in (None, HALF)


class RulesConfig(Config):
    """Calibration and threshold; fitted on validation patients."""

    calibration: Literal["none", "temperature", "platt", "isotonic"] = option(
        "none",
        "map that brings probabilities nearer to what happens; platt and isotonic "
        "take two classes",
    )
    threshold: ThresholdConfig = ThresholdConfig()

    @property
    def for_tiles(self) -> DecisionConfig:
        """The same of tiles: without sets of classes and drift, which are of bags."""
        given = {name: getattr(self, name) for name in RulesConfig.model_fields}
        return DecisionConfig(**given, drift=False)


class DecisionConfig(RulesConfig):
    """What a head makes of its probabilities; fitted on validation patients."""

    coverage: float | None = option(
        None,
        "share of new patients whose set of classes shall hold the true one; where a "
        "set has not exactly one class, the head abstains; null: no sets",
        gt=0,
        lt=1,
    )
    by_class: bool = option(False, "whether the coverage is promised class by class")
    drift: bool = option(
        True,
        "keep mean embeddings of the patients, with which predict tests whether new "
        "ones lie where they did",
    )

    @model_validator(mode="after")
    def _classes_have_a_coverage(self) -> DecisionConfig:
        if self.by_class and self.coverage is None:
            raise ValueError(
                "by_class: of a coverage, which is null: give coverage=0.9"
            )
        return self

    @property
    def is_fitted(self) -> bool:
        """Whether something of it has to be fitted on validation patients."""
        fixed = self.threshold.policy == "fixed"
        return self.calibration != "none" or not fixed or self.coverage is not None

    @property
    def is_neutral(self) -> bool:
        """Whether the most probable class is decided for, as without it."""
        return not self.is_fitted and self.threshold.is_neutral

    def check_target(self, target: Target) -> None:
        """Refuse what needs classes where the target is another kind.

        Raises:
            ValueError: of one line.
        """
        if not target.of_classes and not self.is_neutral:
            raise ValueError(
                "decision: calibration, threshold and coverage are of classes, and "
                f"target.kind={target.kind}: leave them out"
            )

    def check_classes(self, names: Sequence[str]) -> None:
        """Refuse what needs two classes where there are more.

        Raises:
            InputError: of one line.
        """
        if len(names) == 2:
            return
        what = f"takes two classes, and there are {len(names)}: "
        if self.calibration in _OF_TWO:
            raise InputError(
                f"decision.calibration={self.calibration} {what}give temperature"
            )
        if not self.threshold.is_neutral:
            raise InputError(f"decision.threshold {what}leave it out")

    def check_validation(self, share: float, given: bool) -> None:
        """Refuse to fit anything where no patients are set aside.

        Args:
            share: ``split.validation``.
            given: whether the input has validation bags of its own.

        Raises:
            InputError: of one line.
        """
        if self.is_fitted and share == 0 and not given:
            raise InputError(
                "decision: calibration, threshold and coverage are fitted on "
                "validation patients, and split.validation is 0: give 0.2"
            )
