"""Decisions of a trained config: kept in its head, examined out of fold."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mshisto_ray.decision.config import DecisionConfig
from mshisto_ray.decision.examination import Examination, examine_within_folds
from mshisto_ray.decision.files import Decision, read_decision, write_decision
from mshisto_ray.decision.reference import LEAST_PATIENTS, patient_means
from mshisto_ray.decision.rules import fit_rules, fit_within_folds
from mshisto_ray.learning.predictions import Predictions
from mshisto_ray.mil.input.bags import Bags


def write_rules(
    head: Path,
    config: DecisionConfig,
    bags: Bags,
    validation: Predictions | None,
    former: Decision | None = None,
) -> Decision:
    """Write what a head decides beside its models.

    Its rules are fitted on the validation patients of all folds together.

    Args:
        head: folder of the head.
        config: what to keep.
        bags: that the head was trained on.
        validation: predictions of the bags set aside; None where none were.
        former: an earlier decision on the same bags, whose reference is kept.
    """
    rules = fit_rules(validation, config)
    used = validation is not None and config.is_fitted
    patients = set(validation.patient_id) if used and validation else set()
    reference = _reference(bags, former) if config.drift else None
    decision = Decision(config, rules, len(patients), reference, bags.identity)
    write_decision(head, decision)
    return decision


def former_decision(head: Path, bags: Bags) -> Decision | None:
    """The decision in the folder of a head, if it is of these bags."""
    found = read_decision(head)
    return found if found and found.bags == bags.identity else None


def examine_result(
    test: Predictions, validation: Predictions | None, config: DecisionConfig
) -> Examination | None:
    """Decisions on the out-of-fold bags of a config, nested; None of other targets.

    Each fold's test patients are decided on by rules of its own validation patients.
    """
    if not test.kind.of_classes or (config.is_fitted and validation is None):
        return None
    models = np.unique(np.stack([test.repeat, test.fold], 1), axis=0)
    return examine_within_folds(test, fit_within_folds(validation, config, models))


def _reference(bags: Bags, former: Decision | None) -> np.ndarray | None:
    """Mean embeddings of the patients, None of a bag table or of few patients."""
    if bags.encoder is None or len(set(bags.patient_ids)) < LEAST_PATIENTS:
        return None
    if former is not None and former.reference is not None:
        return former.reference

    def mean(member: int) -> np.ndarray | None:
        values = bags.features.read(member)
        return values.mean(0, dtype=np.float64) if len(values) else None

    _, found = patient_means(bags.patient_ids, bags.members, mean)
    return found if len(found) >= LEAST_PATIENTS else None
