"""Random bags that share the tiles of their slide: equal to bags of their own."""

import numpy as np
import pytest
import torch
from fixtures.experiments import experiment_of, write_cohort

from mshisto_ray import config
from mshisto_ray.config import InputError
from mshisto_ray.mil import experiment
from mshisto_ray.mil.fit import fold_steps
from mshisto_ray.mil.fit.batches import BagBatch, Batches
from mshisto_ray.mil.fit.config import TrainConfig
from mshisto_ray.mil.fit.cross_validation import cross_validate
from mshisto_ray.mil.fit.standardisation import fit_standardisation, slide_moments
from mshisto_ray.mil.model import MILModel

CPU = torch.device("cpu")
VOTE = {"bags": 5, "size": 3}


@pytest.fixture
def study(make_embeddings, tmp_path):
    """Each slide a column of tiles at three scales; the finest lacks one."""

    def sizes(rng):
        coarse = int(rng.integers(2, 8))
        return {0.5: 4 * coarse - 1, 1.0: 2 * coarse, 2.0: coarse}

    return write_cohort(make_embeddings, tmp_path, sizes)


def settings(study, **keys):
    scales = {
        "scales": (2.0, 1.0, 0.5), "vote": VOTE,
        "combine": {"name": "cross_scale", "heads": 2, "head_dim": 3},
        "early_stopping": None, "split": {"folds": 2, "validation": 0},
    }  # fmt: skip
    return experiment_of(study, **scales | keys)


def in_double(batch):
    finer = tuple(scale._replace(h=scale.h.double()) for scale in batch.finer)
    return batch._replace(h=batch.h.double(), finer=finer)


def loss_and_gradients(model, batch):
    model.zero_grad()
    found = model(*in_double(batch)).log_probabilities
    found[:, 0].square().sum().backward()
    return found.detach(), [weight.grad.clone() for weight in model.parameters()]


@pytest.mark.parametrize("combine", ["concat", "cross_scale"])
@pytest.mark.parametrize("pooling", ["embedding_mean", "smooth_attention"])
def test_values_and_gradients_are_those_of_bags_with_tiles_of_their_own(
    study, combine, pooling
):
    training = settings(study, combine={"name": combine}, pooling={"name": pooling})
    bags, _ = experiment.load(training)
    fitted = fit_standardisation(bags, slide_moments(bags), np.arange(len(bags)))
    batches = Batches(bags, fitted, CPU, training.vote)
    draws = batches.training_draws(np.arange(len(bags)), 1)
    draws = np.random.default_rng(0).permutation(draws)[:20]
    shared, plain = batches.draws(draws), batches.draws(draws, share=False)
    assert len(shared.h) < len(plain.h) and plain.rows is None
    assert shared.rows is not None and torch.equal(shared.h[shared.rows], plain.h)
    assert torch.equal(shared.offsets, plain.offsets)
    assert shared.places and plain.places
    assert torch.equal(shared.places(), plain.places())
    model = MILModel(bags.dims, 2, [4], 0, training.pooling, training.combine).double()
    wanted, gradients = loss_and_gradients(model, plain)
    found, own = loss_and_gradients(model, shared)
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-12)
    for one, other in zip(own, gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)


def test_a_slide_of_few_tiles_is_projected_once_for_all_its_bags(study):
    bags, _ = experiment.load(settings(study))
    fitted = fit_standardisation(bags, slide_moments(bags), np.arange(len(bags)))
    training = settings(study, vote={"bags": 50, "size": 100})
    batches = Batches(bags, fitted, CPU, training.vote)
    every = batches.draws(batches.training_draws(np.array([1, 0]), 1))
    assert len(every.h) == bags.sizes[[1, 0]].sum()
    assert every.rows is not None
    assert len(every.rows) == 50 * len(every.h)


@pytest.mark.parametrize(("sigma", "shares"), [(0, True), (0.1, False)])
def test_copies_that_noise_disturbs_share_nothing(study, monkeypatch, sigma, shares):
    """Each copy of a tile has a noise of its own, as without sharing."""
    seen = []

    class Spy(Batches):
        def draws(self, draws, share=True) -> BagBatch:
            seen.append(share)
            return super().draws(draws, share)

    monkeypatch.setattr("mshisto_ray.mil.fit.fold.Batches", Spy)
    noise = {"name": "gaussian", "sigma": sigma}
    training = settings(study, noise=noise, epochs=1)
    bags, splits = experiment.load(training)
    cross_validate(bags, splits, training, CPU)
    assert set(seen) == {shares}


def test_together_a_step_holds_the_random_bags_of_one_slide(study, monkeypatch):
    steps = []
    forward = fold_steps.FoldSteps._forward

    def spy(self, draws, *rest):
        steps.append(draws.copy())
        return forward(self, draws, *rest)

    monkeypatch.setattr(fold_steps.FoldSteps, "_forward", spy)
    training = settings(
        study, vote=VOTE | {"together": True}, batch_size=VOTE["bags"], epochs=2
    )
    bags, splits = experiment.load(training)
    cross_validate(bags, splits[:1], training, CPU)
    train = sorted(splits[0].train.tolist())
    orders = []
    for epoch in np.split(np.stack(steps), 2):
        assert (epoch[:, :, 0] == epoch[:, :1, 0]).all()
        assert (epoch[:, :, 1] == np.arange(VOTE["bags"])).all()
        orders.append(epoch[:, 0, 0].tolist())
        assert sorted(orders[-1]) == train
    assert orders[0] != orders[1]


def test_together_and_balanced_are_refused():
    raw = {"vote": VOTE | {"together": True}, "draws": "balanced"}
    with pytest.raises(InputError, match=r"vote\.together: bags of a slide follow"):
        config.validate(TrainConfig, raw)
