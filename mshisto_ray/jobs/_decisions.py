"""Decisions of a finished config: examined out of fold, kept in its head."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mshisto_ray.decision.config import DecisionConfig
from mshisto_ray.decision.examination import Examination
from mshisto_ray.decision.files import Decision, write_decision
from mshisto_ray.decision.rules import fit_rules
from mshisto_ray.learning.split import Split
from mshisto_ray.learning.sweep.experiment import Experiment
from mshisto_ray.mil import experiment
from mshisto_ray.mil.decisions import examine_result, former_decision, write_rules
from mshisto_ray.mil.experiment import ExperimentConfig
from mshisto_ray.mil.input.bags import Bags

DECISIONS = "decisions.png"


def check_tile_decision(
    decision: DecisionConfig,
    classes: Sequence[str],
    splits: Sequence[Split],
    share: float,
) -> None:
    """Refuse decisions on tiles that these classes and splits do not allow.

    ``share``: of the training groups that are validation.

    Raises:
        InputError: of one line.
    """
    decision.check_classes(classes)
    given = any(len(split.validation) for split in splits)
    decision.check_validation(share, given)


def decided(
    trained: Experiment, folder: Path, config: DecisionConfig
) -> Examination | None:
    """Decisions on the out-of-fold rows of a result; None of other targets."""
    test, validation = trained.read_test(folder), trained.read_validation(folder)
    return examine_result(test, validation, config)


def keep_decision(
    head: Path,
    config: DecisionConfig,
    trained: Experiment,
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
    validation = trained.read_validation(folder)
    if not isinstance(trained, ExperimentConfig):  # of tiles
        used = validation.patient_id if validation and config.is_fitted else ()
        rules = fit_rules(validation, config)
        write_decision(head, Decision(config, rules, len(set(used))))
        return
    own = bags or experiment.load(trained)[0]
    write_rules(head, config, own, validation, former_decision(former, own))
