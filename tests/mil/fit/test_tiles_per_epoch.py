"""Training on some tiles of a bag, other ones in every epoch."""

import dataclasses

import numpy as np
import pytest
import torch

from mshisto_ray import config
from mshisto_ray.config import InputError
from mshisto_ray.learning.split import SplitConfig
from mshisto_ray.mil.fit import batches as module
from mshisto_ray.mil.fit import cross_validation
from mshisto_ray.mil.fit.batches import Batches
from mshisto_ray.mil.fit.config import TrainConfig
from mshisto_ray.mil.fit.cross_validation import cross_validate
from mshisto_ray.mil.fit.splits import plan_splits
from mshisto_ray.mil.fit.standardisation import fit_standardisation, slide_moments
from mshisto_ray.mil.fit.together import can_train_together
from mshisto_ray.mil.fit.vote import EpochTiles, draw
from mshisto_ray.mil.poolings.embedding_mean import EmbeddingMean

CPU = torch.device("cpu")
TILES = EpochTiles(3, 0)


def settings(**keys):
    raw = {"tiles_per_epoch": 3, "hidden": [4], "epochs": 3, "early_stopping": None}
    return config.validate(TrainConfig, raw | keys)


@pytest.mark.parametrize("ready", [True, False])
def test_an_epochs_tiles_are_drawn_by_seed_epoch_and_slide(planted, monkeypatch, ready):
    monkeypatch.setattr(module, "_READY_BYTES", 1 << 20 if ready else 0)
    bags = planted(num=8, largest=9)
    # A patient of two slides.
    two = dataclasses.replace(
        bags,
        members=((0, 1), *bags.members[1:]),
        sizes=np.array([bags.sizes[:2].sum(), *bags.sizes[1:]]),
    )
    fitted = fit_standardisation(two, slide_moments(two), np.arange(8))
    batches, whole = Batches(two, fitted, CPU, None, TILES), Batches(two, fitted, CPU)
    seen = []
    for epoch in (1, 2):
        draws = batches.training_draws(np.array([4, 0, 1]), epoch)
        assert draws.tolist() == [[4, epoch], [0, epoch], [1, epoch]]
        h, offsets, *_ = batches.draws(draws)
        for i, bag in enumerate((4, 0, 1)):
            rows = draw(TILES, two.names[bag], int(two.sizes[bag]), epoch)
            assert len(rows) == min(3, two.sizes[bag])
            found = h[offsets[i] : offsets[i + 1]]
            torch.testing.assert_close(found, whole.get([bag]).h[rows])
            alone = batches.draws(draws[i : i + 1]).h
            torch.testing.assert_close(found, alone)
        seen.append(draw(TILES, two.names[0], int(two.sizes[0]), epoch).tolist())
    assert seen[0] != seen[1]


def test_evaluation_uses_every_tile(planted):
    bags = planted(num=8, largest=9)
    fitted = fit_standardisation(bags, slide_moments(bags), np.arange(8))
    batches, whole = Batches(bags, fitted, CPU, None, TILES), Batches(bags, fitted, CPU)
    index = np.array([5, 2, 7])
    for run in batches.in_order(index):
        assert torch.equal(batches.draws(run).h, whole.get(run[:, 0]).h)
    # A mixed batch, as no caller makes it: each draw is what its number says.
    _, offsets, *_ = batches.draws(np.array([[5, 0], [5, 1]]))
    assert offsets.diff().tolist() == [bags.sizes[5], min(3, bags.sizes[5])]


def test_training_sees_no_more_and_prediction_sees_all(planted, monkeypatch):
    bags, training = planted(num=16, largest=9), settings(batch_size=2)
    training = training.model_copy(update={"pooling": settings(
        pooling={"name": "embedding_mean"}).pooling})  # fmt: skip
    seen = {True: [], False: []}
    plain = EmbeddingMean.forward

    def forward(self, h, offsets):
        seen[self.training] += offsets.diff().tolist()
        return plain(self, h, offsets)

    monkeypatch.setattr(EmbeddingMean, "forward", forward)
    splits = plan_splits(bags, SplitConfig(folds=2, validation=0), training)
    cross_validate(bags, splits, training, torch.device("cpu"))
    assert max(seen[True]) == 3 < bags.sizes.max() == max(seen[False])
    assert sorted(seen[False]) == sorted(bags.sizes)


def test_models_trained_together_see_the_same_tiles(planted, monkeypatch):
    bags, training = planted(num=26, largest=9), settings(dropout=0.5)
    splits = plan_splits(bags, SplitConfig(folds=4, validation=0), training)
    assert can_train_together(bags, training, len(splits), CPU)
    together = cross_validate(bags, splits, training, CPU)
    monkeypatch.setattr(cross_validation, "can_train_together", lambda *_: False)
    apart = cross_validate(bags, splits, training, CPU)
    for one, other in zip(together.models, apart.models, strict=True):
        losses = [[e["loss"] for e in m.history] for m in (one, other)]
        np.testing.assert_allclose(*losses, rtol=1e-4)
    whole = cross_validate(bags, splits, settings(dropout=0.5, tiles_per_epoch=9), CPU)
    losses = [m.models[0].history[0]["loss"] for m in (apart, whole)]
    assert losses[0] != losses[1]


def test_large_bags_are_stacked_where_few_of_their_tiles_are_drawn(planted):
    bags = planted(num=8, largest=9)
    bags = dataclasses.replace(bags, sizes=bags.sizes * 1000)
    assert can_train_together(bags, settings(), 4, CPU)
    assert not can_train_together(bags, settings(tiles_per_epoch=None), 4, CPU)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"tiles_per_epoch": 0}, "tiles_per_epoch.*greater than or equal to 1"),
        ({"vote": {"bags": 3, "size": 2}}, "with vote a slide is random bags"),
    ],
)
def test_settings_that_do_not_fit_are_refused(keys, message):
    with pytest.raises(InputError, match=message):
        settings(**keys)
