"""What a head decides travels with it."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from mshisto_ray import config as configs
from mshisto_ray.decision.config import DecisionConfig
from mshisto_ray.decision.rules import fit_rules
from mshisto_ray.learning.split import SplitConfig
from mshisto_ray.mil.decisions import examine_result, former_decision, write_rules
from mshisto_ray.mil.fit.config import TrainConfig
from mshisto_ray.mil.fit.cross_validation import cross_validate
from mshisto_ray.mil.fit.splits import plan_splits
from mshisto_ray.mil.head import load_head
from mshisto_ray.mil.predict import predict
from mshisto_ray.mil.trained_head import save_head

WANTED = configs.validate(
    DecisionConfig,
    {"calibration": "platt", "threshold": {"policy": "youden"}, "coverage": 0.8},
)


@pytest.fixture
def trained(planted, tmp_path):
    """Bags with an encoder, their cross-validation, the folder of the head."""
    bags = replace(planted(num=48), encoder={"name": "of a test"}, scale=0.5)
    config = configs.validate(
        TrainConfig, {"hidden": [], "epochs": 3, "early_stopping": None}
    )
    splits = plan_splits(bags, SplitConfig(folds=2, validation=0.4), config)
    result = cross_validate(bags, splits, config, torch.device("cpu"))
    save_head(tmp_path / "head", result, bags, config, {"unit": "slide"})
    return bags, result, tmp_path / "head"


def test_new_bags_are_calibrated_model_by_model(trained, planted):
    bags, result, folder = trained
    plain = load_head(folder)
    assert plain.decision is None
    new = replace(planted(num=5, seed=3), encoder=bags.encoder, scale=0.5)
    new = replace(new, patient_ids=tuple(f"new{i}" for i in range(5)))
    before = predict(plain, new, torch.device("cpu"))
    assert before.calibrated is None
    write_rules(folder, WANTED, bags, result.validation)
    head = load_head(folder)
    assert (
        head.decision.rules.calibration
        == fit_rules(result.validation, WANTED).calibration
    )
    assert head.decision.fitted_on == len(set(result.validation.patient_id))
    found = predict(head, new, torch.device("cpu"))
    np.testing.assert_array_equal(found.probabilities, before.probabilities)
    each = [
        head.decision.rules.calibrated(
            predict(replace(plain, models=(m,)), new, torch.device("cpu")).probabilities
        )
        for m in plain.models
    ]
    np.testing.assert_allclose(found.calibrated, np.mean(each, 0), rtol=1e-6)


def test_the_reference_is_of_all_patients_and_read_once(trained):
    bags, result, folder = trained
    write_rules(folder, WANTED, bags, result.validation)
    expected = [bags.features.read(i).mean(0) for i in range(len(bags))]
    order = np.argsort(bags.patient_ids)
    reference = load_head(folder).decision.reference
    np.testing.assert_allclose(reference, np.array(expected)[order], rtol=1e-5)
    former = former_decision(folder, bags)
    assert former is not None
    again = write_rules(folder, WANTED, bags, result.validation, former)
    assert again.reference is former.reference
    assert former_decision(folder, bags.take(range(30))) is None
    off = WANTED.model_copy(update={"drift": False})
    assert write_rules(folder, off, bags, result.validation).reference is None
    table = replace(bags, encoder=None)
    assert write_rules(folder, WANTED, table, result.validation).reference is None


def test_out_of_fold_decisions_know_their_own_validation_alone(trained):
    _, result, _ = trained
    found = examine_result(result.test, result.validation, WANTED)
    one = result.validation.take(result.validation.fold == 1)
    rows = result.test.fold == 1
    expected = fit_rules(one, WANTED).calibrated(result.test.probabilities[rows])
    np.testing.assert_array_equal(found.calibrated[rows], expected)
    assert examine_result(result.test, None, WANTED) is None
    assert examine_result(result.test, None, DecisionConfig()) is not None
