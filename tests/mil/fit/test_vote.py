import collections
import dataclasses

import numpy as np
import pytest
import torch

from mshisto_ray import config
from mshisto_ray.learning.class_labels import majority
from mshisto_ray.learning.metrics import auroc
from mshisto_ray.learning.targets.classes import FittedClasses
from mshisto_ray.mil.fit import batches as module
from mshisto_ray.mil.fit.batches import Batches
from mshisto_ray.mil.fit.config import TrainConfig
from mshisto_ray.mil.fit.fold import fit_fold
from mshisto_ray.mil.fit.fold_model import FoldTask, count_steps
from mshisto_ray.mil.fit.scoring import log_probabilities
from mshisto_ray.mil.fit.standardisation import fit_standardisation, slide_moments
from mshisto_ray.mil.fit.validation import FoldValidation
from mshisto_ray.mil.fit.vote import VoteConfig, draw, num_draws
from mshisto_ray.mil.model import MILModel

CPU = torch.device("cpu")
VOTE = VoteConfig(bags=6, size=3)


def two(*positive):
    p = np.array(positive, float)
    return np.stack([1 - p, p], 1)


def test_most_votes_win_whatever_the_probabilities():
    # Two bags are very sure of the second class, three lean to the first.
    voted = majority(two(0.99, 0.99, 0.45, 0.45, 0.45))
    assert voted.argmax() == 0 and voted.sum() == pytest.approx(1)


@pytest.mark.parametrize(("unsure", "winner"), [(0.4, 1), (0.05, 0)])
def test_a_tie_is_broken_by_the_mean_probability(unsure, winner):
    probabilities = two(*[0.8] * 25, *[unsure] * 25)
    voted = majority(probabilities)
    assert voted.argmax() == winner
    share = (25 + probabilities.mean(0)) / 51
    np.testing.assert_allclose(voted, share)


def test_votes_of_many_classes_against_counting():
    rng = np.random.default_rng(0)
    for _ in range(200):
        probabilities = rng.dirichlet(np.ones(4), 7)
        votes = collections.Counter(probabilities.argmax(1).tolist())
        most = max(votes.values())
        tied = [c for c, n in votes.items() if n == most]
        wanted = max(tied, key=lambda c: probabilities[:, c].mean())
        assert majority(probabilities).argmax() == wanted


def test_draws_depend_on_seed_slide_and_number_alone():
    one = draw(VOTE, "a", 100, 4)
    assert len(set(one)) == 3 and (np.diff(one) > 0).all() and one.max() < 100
    assert (one == draw(VOTE, "a", 100, 4)).all()
    others = [
        draw(VOTE, "b", 100, 4),
        draw(VOTE, "a", 100, 5),
        draw(VoteConfig(bags=6, size=3, seed=1), "a", 100, 4),
    ]
    assert not any((one == other).all() for other in others)


def test_every_instance_is_drawn_about_equally_often():
    config = VoteConfig(bags=2000, size=5)
    drawn = np.concatenate([draw(config, "a", 20, i) for i in range(2000)])
    counts = np.bincount(drawn, minlength=20)
    # Binomial of 2000 trials with p = 1/4: five standard deviations.
    assert (np.abs(counts - 500) < 5 * np.sqrt(2000 * 0.25 * 0.75)).all()


def test_a_small_slide_is_one_bag_with_all_it_has():
    assert draw(VOTE, "a", 3, 0).tolist() == [0, 1, 2]
    assert [num_draws(VOTE, n) for n in (1, 3, 4)] == [1, 1, 6]


@pytest.mark.parametrize("ready", [True, False])
def test_random_bags_hold_the_drawn_instances(planted, monkeypatch, ready):
    monkeypatch.setattr(module, "_READY_BYTES", 1 << 20 if ready else 0)
    bags = planted(num=6, largest=9)
    fitted = fit_standardisation(bags, slide_moments(bags), np.arange(6))
    batches, whole = Batches(bags, fitted, CPU, VOTE), Batches(bags, fitted, CPU)
    draws = batches.all_draws(np.array([4, 1]))
    h, offsets, *_ = batches.draws(draws)
    for i, (bag, number) in enumerate(draws.tolist()):
        rows = draw(VOTE, bags.names[bag], bags.sizes[bag], number)
        wanted = whole.get([bag]).h[rows]
        assert torch.equal(h[offsets[i] : offsets[i + 1]], wanted)


def test_a_slides_probability_is_the_vote_of_its_random_bags(planted, monkeypatch):
    monkeypatch.setattr(
        module, "_EVALUATION_ROWS", 10
    )  # draws of a bag in several runs
    bags = planted(num=8, largest=9)
    fitted = fit_standardisation(bags, slide_moments(bags), np.arange(8))
    batches = Batches(bags, fitted, CPU, VOTE)
    training = config.validate(TrainConfig, {"pooling": {"name": "embedding_mean"}})
    model = MILModel([6], 2, [4], 0, training.pooling, training.combine).eval()
    index = np.array([5, 2, 7])
    found = log_probabilities(model, batches, index).exp().numpy()
    for i, bag in enumerate(index):
        draws = batches.all_draws(np.array([bag]))
        each = [model(*batches.draws(d[None])).log_probabilities.exp() for d in draws]
        wanted = majority(torch.cat(each).detach().double().numpy())
        np.testing.assert_allclose(found[i], wanted, rtol=1e-5)


def test_votes_are_validated_by_the_loss_of_their_random_bags(planted):
    """Sure or just so: the vote is the same, the loss is not."""
    bags = planted(num=8, largest=9)
    fitted = fit_standardisation(bags, slide_moments(bags), np.arange(8))
    batches = Batches(bags, fitted, CPU, VOTE)
    raw = {"pooling": {"name": "embedding_mean"}, "hidden": [4], "dropout": 0}
    training = config.validate(TrainConfig, raw)
    model = MILModel([6], 2, [4], 0, training.pooling, training.combine)
    index = np.array([5, 2, 7])
    found = FoldValidation(bags, batches, FittedClasses(), index).measure(model)
    losses = []
    for bag in index:
        draws = batches.all_draws(np.array([bag]))
        each = [model(*batches.draws(d[None])).log_probabilities for d in draws]
        losses.append(-torch.cat(each)[:, bags.targets[bag]].mean().item())
    assert found["val_loss"] == pytest.approx(np.mean(losses), rel=1e-5)
    votes = log_probabilities(model, batches, index).exp().numpy()
    assert found["val_auroc"] == auroc(votes, bags.targets[index])


def test_training_sees_random_bags_of_several_slides_of_a_patient(planted):
    bags = planted(num=40, largest=9, everywhere=True)
    pairs = tuple((i, i + 2) for i in range(0, 40, 4)) + tuple(
        (i, i + 2) for i in range(1, 40, 4)
    )
    bags = dataclasses.replace(
        bags,
        names=tuple(f"p{i}" for i in range(20)),
        patient_ids=tuple(f"p{i}" for i in range(20)),
        slide_ids=(None,) * 20,
        members=pairs,
        targets=np.repeat([0, 1], 10),
        sizes=np.array([bags.sizes[list(pair)].sum() for pair in pairs]),
    )
    training = config.validate(
        TrainConfig,
        {
            "pooling": {"name": "embedding_mean"},
            "vote": {"bags": 6, "size": 3},
            "hidden": [],
            "optimiser": {"lr": 0.02},
            "epochs": 5,
            "early_stopping": None,
        },
    )
    train, test = np.r_[0:8, 10:18], np.r_[8, 9, 18, 19]
    fitted = fit_standardisation(bags, slide_moments(bags), train)
    steps = count_steps(len(train), training)
    task = FoldTask(fitted, train, test[:0], (0, 0), steps)
    model = fit_fold(bags, task, training, CPU)
    batches = Batches(bags, fitted, CPU, training.vote)
    found = log_probabilities(model.model, batches, test).argmax(1)
    assert found.tolist() == [0, 0, 1, 1]


def test_small_slides_weigh_no_less_in_training(planted):
    bags = planted(num=8, largest=9)
    assert bags.sizes.min() <= VOTE.size < bags.sizes.max()
    fitted = fit_standardisation(bags, slide_moments(bags), np.arange(8))
    draws = Batches(bags, fitted, CPU, VOTE).training_draws(np.arange(8), 1)
    assert np.bincount(draws[:, 0]).tolist() == [VOTE.bags] * 8
    plain = Batches(bags, fitted, CPU).training_draws(np.array([3, 1]), 1)
    assert plain.tolist() == [[3, 0], [1, 0]]
