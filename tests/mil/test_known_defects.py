"""Mistakes that MIL software is known for, each shown to be absent here."""

import dataclasses

import numpy as np
import pytest
import torch
from fixtures import poolings

from mshisto_ray import components, config
from mshisto_ray.learning.metrics import auroc
from mshisto_ray.learning.split import SplitConfig
from mshisto_ray.mil.fit.batches import Batches
from mshisto_ray.mil.fit.config import TrainConfig
from mshisto_ray.mil.fit.cross_validation import cross_validate
from mshisto_ray.mil.fit.scoring import log_probabilities
from mshisto_ray.mil.fit.splits import plan_splits
from mshisto_ray.mil.model import POOLINGS, MILModel
from mshisto_ray.representation.normalise import Standardisation

CPU = torch.device("cpu")
every = pytest.mark.parametrize("name", components.available(POOLINGS))


def pooling(name):
    return poolings.pooling(name, dtype=torch.float64, dim=4).eval()


@pytest.mark.parametrize("name", ["attention", "embedding_mean", "embedding_max"])
def test_ragged_bags_equal_padded_ones_with_a_mask(name):
    """Padding, done with a mask as it must be, gives the same; garbage is unseen."""
    pool, sizes = pooling(name), [3, 1, 8]
    h = torch.randn(12, 4, dtype=torch.float64)
    mask = torch.arange(8) < torch.tensor(sizes)[:, None]
    padded = torch.full((3, 8, 4), 1e6, dtype=torch.float64)
    padded[mask] = h
    if name == "attention":
        scores = pool.scores(padded)[..., 0].masked_fill(~mask, -torch.inf)
        z = scores.softmax(1)[:, None] @ padded
    elif name == "embedding_mean":
        z = padded.masked_fill(~mask[..., None], 0).sum(1) / mask.sum(1, keepdim=True)
    else:
        z = padded.masked_fill(~mask[..., None], -torch.inf).amax(1)
    logits = pool.classifier(z.reshape(3, 4))
    out = pool(h, torch.tensor([0, 3, 4, 12]))
    wanted = torch.nn.functional.logsigmoid(torch.cat([-logits, logits], 1))
    torch.testing.assert_close(out.log_probabilities, wanted)


@every
def test_a_prediction_does_not_depend_on_how_large_other_bags_are(name):
    pool = pooling(name)
    bag = torch.randn(5, 4, dtype=torch.float64)
    found = [
        pool(
            torch.cat([bag, torch.randn(other, 4).double()]),
            torch.tensor([0, 5, 5 + other]),
        ).log_probabilities[0]
        for other in (1, 20, 500)
    ]
    torch.testing.assert_close(found[0], found[1])
    torch.testing.assert_close(found[0], found[2])


def test_predicting_switches_dropout_off_and_keeps_no_graph(planted):
    bags = planted()
    parts = components.Part(name="embedding_mean"), components.Part(name="single")
    model = MILModel([6], 2, [16], 0.9, *parts).train()
    batches = Batches(bags, Standardisation(torch.zeros(6), torch.ones(6)), CPU)
    one, two = (log_probabilities(model, batches, np.arange(10)) for _ in range(2))
    assert torch.equal(one, two) and not one.requires_grad


def test_labels_of_the_test_fold_change_no_prediction(planted):
    """No epoch, threshold or weight is picked on the fold that is reported."""
    bags = planted(num=40)
    fixed = dataclasses.replace(bags, folds=tuple("ab"[i // 20] for i in range(40)))
    # The first fold's labels are swapped; the second fold's are kept.
    order = np.concatenate([np.arange(20)[::-1], np.arange(20, 40)])
    swapped = dataclasses.replace(fixed, targets=fixed.targets[order])
    training = config.validate(
        TrainConfig, {"epochs": 3, "hidden": [8], "early_stopping": {"patience": 2}}
    )
    found = []
    for version in (fixed, swapped):
        splits = plan_splits(version, SplitConfig(folds=2), training)
        test = cross_validate(version, splits[:1], training, CPU).test
        found.append(test.probabilities[np.argsort(test.bag)])
    assert splits[0].test.tolist() == list(range(20))
    np.testing.assert_array_equal(*found)


@pytest.mark.parametrize("num", [92, 93, 101])
def test_every_bag_is_tested_once_a_repeat(planted, num):
    """Also where bags do not divide into folds."""
    bags = planted(num=num)
    splits = plan_splits(bags, SplitConfig(folds=10, repeats=2, validation=0), None)
    assert len(splits) == 20
    for repeat in range(2):
        tested = np.concatenate([s.test for s in splits if s.repeat == repeat])
        assert sorted(tested) == list(range(num))


def test_an_auroc_of_one_class_is_undefined_not_perfect():
    assert np.isnan(auroc(np.array([[0.1, 0.9], [0.2, 0.8]]), np.array([1, 1])))
