"""Every target, trained: in one way and another, and against scikit-survival."""

import numpy as np
import pytest
import torch
from fixtures.parts import examples, held
from sksurv.linear_model import CoxPHSurvivalAnalysis
from sksurv.util import Surv

from mshisto_ray import config
from mshisto_ray.learning.split import SplitConfig
from mshisto_ray.learning.targets import TARGETS, TargetConfig
from mshisto_ray.mil.fit import batches as batching
from mshisto_ray.mil.fit import cross_validation, fold_steps
from mshisto_ray.mil.fit.config import TrainConfig
from mshisto_ray.mil.fit.cross_validation import cross_validate
from mshisto_ray.mil.fit.splits import plan_splits
from mshisto_ray.mil.head import load_head
from mshisto_ray.mil.input.bags import Bags
from mshisto_ray.mil.predict import predict
from mshisto_ray.mil.trained_head import save_head
from mshisto_ray.store.features import ArrayFeatures

CPU = torch.device("cpu")
every = pytest.mark.parametrize("part", examples(TARGETS))


def bags_of(part, values, num=36):
    """Bags of the values [N, D], a few rows each, with the target of its test."""
    name, keys = part
    target = TargetConfig(kind=name, **keys).build()
    cells = held(TARGETS, name, "cells", None)(np.random.default_rng(0), num, keys)
    names = tuple(f"b{i}" for i in range(num))
    found = target.encode(cells, names, "bags")
    sizes = np.full(num, len(values) // num)
    return of_truth(target, found.truth, found.names, values, sizes)


def of_truth(target, truth, resolved, values, sizes):
    names = tuple(f"b{i}" for i in range(len(sizes)))
    offsets = np.concatenate([[0], sizes.cumsum()])
    return Bags(
        features=ArrayFeatures(names, values.astype(np.float32), offsets),
        names=names,
        members=tuple((i,) for i in range(len(sizes))),
        slide_ids=(None,) * len(sizes),
        patient_ids=names,
        targets=truth,
        classes=resolved,
        folds=None,
        sizes=sizes,
        digest="0",
        encoder=None,
        scale=None,
        notes=(),
        kind=target,
    )


def trained(bags, refit=False, **keys):
    raw = {"hidden": [4], "epochs": 4, "early_stopping": None, **keys}
    training = config.validate(TrainConfig, raw)
    splits = plan_splits(bags, SplitConfig(folds=3, validation=0), training)
    return training, cross_validate(bags, splits, training, CPU, refit)


@every
def test_training_together_equals_training_one_by_one(part, monkeypatch):
    bags = bags_of(part, np.random.default_rng(1).normal(size=(72, 5)))
    _, together = trained(bags)
    never = lambda *given: False  # noqa: E731
    monkeypatch.setattr(cross_validation, "can_train_together", never)
    _, alone = trained(bags)
    np.testing.assert_allclose(
        together.test.probabilities, alone.test.probabilities, rtol=1e-4, atol=1e-5
    )


@every
def test_a_head_predicts_as_its_models_did(part, tmp_path):
    bags = bags_of(part, np.random.default_rng(1).normal(size=(72, 5)))
    training, result = trained(bags, refit=True, pooling="attention")
    about = {"target": bags.kind.settings}
    save_head(tmp_path / "head", result, bags, training, about)
    head = load_head(tmp_path / "head")
    assert head.kind == bags.kind
    found = predict(head, bags, CPU)
    order = {name: i for i, name in enumerate(result.test.bag)}
    wanted = result.test.probabilities[[order[name] for name in bags.names]]
    np.testing.assert_allclose(found.probabilities, wanted, rtol=1e-5, atol=1e-6)
    assert found.attention is not None and found.instance_probabilities is None


SURVIVAL = ("survival", {"time": "months", "event": "died"})


def test_a_whole_fold_in_parts_has_the_gradient_of_one_piece(monkeypatch):
    bags = bags_of(SURVIVAL, np.random.default_rng(1).normal(size=(72, 5)))
    _, whole = trained(bags, dropout=0)
    monkeypatch.setattr(batching, "_EVALUATION_ROWS", 10)
    _, parts = trained(bags, dropout=0)
    # The bias cancels in the loss, so that Adam follows the rounding of its gradient.
    np.testing.assert_allclose(
        whole.test.probabilities, parts.test.probabilities, rtol=1e-4, atol=1e-4
    )


def test_parts_meet_the_same_noise_and_dropout_in_both_passes(monkeypatch):
    bags = bags_of(SURVIVAL, np.random.default_rng(1).normal(size=(72, 5)))
    monkeypatch.setattr(batching, "_EVALUATION_ROWS", 10)
    seen, forward = {}, fold_steps.FoldSteps._forward

    def recorded(self, draws, generator):
        out = forward(self, draws, generator)
        seen.setdefault(draws.tobytes(), []).append(out.outputs.detach().clone())
        return out

    monkeypatch.setattr(fold_steps.FoldSteps, "_forward", recorded)
    keys = {"noise": {"name": "gaussian", "sigma": 0.3}, "dropout": 0.5, "epochs": 1}
    trained(bags, **keys)
    twice = [found for found in seen.values() if len(found) == 2]
    assert len(twice) >= 6
    assert all(torch.equal(one, two) for one, two in twice)


def efron(scores, time, event):
    """Log partial likelihood in plain steps."""
    total = 0.0
    for t in np.unique(time[event]):
        dying, alive = event & (time == t), np.exp(scores[time >= t]).sum()
        num, own = dying.sum(), np.exp(scores[dying]).sum()
        total += scores[dying].sum()
        total -= sum(np.log(alive - k / num * own) for k in range(num))
    return total


# CoxPHFitter of lifelines 0.30.3 on the patients of the next test: coefficients, and
# the log partial likelihood. It needs an older pandas than the package takes.
LIFELINES = ([0.7471076, -0.6519094, -0.2678336], -264.126263)


def test_a_linear_cox_model_is_that_of_scikit_survival_and_lifelines():
    rng = np.random.default_rng(0)
    values = rng.normal(size=(150, 3))
    hazard = np.exp(values @ np.array([0.8, -0.5, 0.0]))
    time = np.ceil(10 * rng.exponential(1 / hazard)).clip(1, 15)  # many ties
    event = (rng.random(150) < 0.7) & (time < 15)
    known = CoxPHSurvivalAnalysis(ties="efron").fit(
        values, Surv.from_arrays(event, time)
    )
    target = TargetConfig(kind="survival", time="time", event="event").build()
    truth = np.stack([time, event], 1).astype(float)
    bags = of_truth(target, truth, ("risk",), values, np.ones(150, int))
    keys = {"hidden": [], "dropout": 0, "pooling": "embedding_mean", "epochs": 400}
    optimiser = {"name": "adam", "lr": 0.05, "weight_decay": 0}
    _, result = trained(bags, refit=True, optimiser=optimiser, **keys)
    model = result.refit
    weight = model.model.pooling.classifier.weight[0].detach().numpy()
    found = weight / model.standardisation.std.numpy()
    np.testing.assert_allclose(found, known.coef_, atol=2e-4)
    np.testing.assert_allclose(found, LIFELINES[0], atol=2e-4)
    per_event = -efron(values @ known.coef_, time, event) / event.sum()
    assert model.loss == pytest.approx(per_event, abs=1e-5)
    assert model.loss == pytest.approx(-LIFELINES[1] / event.sum(), abs=1e-5)
