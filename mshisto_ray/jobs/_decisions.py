"""Decisions of a finished config: examined out of fold, kept in its head."""

from __future__ import annotations

from pathlib import Path

from mshisto_ray.decision.config import DecisionConfig
from mshisto_ray.decision.examination import Examination
from mshisto_ray.learning import result_files
from mshisto_ray.mil import experiment
from mshisto_ray.mil.decisions import examine_result, former_decision, write_rules
from mshisto_ray.mil.experiment import ExperimentConfig
from mshisto_ray.mil.input.bags import Bags

DECISIONS = "decisions.png"


def decided(folder: Path, config: DecisionConfig) -> Examination | None:
    """Decisions on the out-of-fold bags of a result; None of other targets."""
    test, validation = (
        result_files.read_test(folder),
        result_files.read_validation(folder),
    )
    return examine_result(test, validation, config)


def keep_decision(
    head: Path,
    config: DecisionConfig,
    trained: ExperimentConfig,
    folder: Path,
    former: Path,
    bags: Bags | None = None,
) -> None:
    """Write what a head decides beside its models.

    Args:
        head: its folder.
        config: what to keep.
        trained: the config of the head.
        folder: of its result.
        former: a head that may have been made of the same bags.
        bags: that it was trained on, if they are at hand.
    """
    own = bags or experiment.load(trained)[0]
    validation = result_files.read_validation(folder)
    write_rules(head, config, own, validation, former_decision(former, own))
