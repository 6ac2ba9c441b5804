import numpy as np
import pytest
import torch

from mshisto_ray import components
from mshisto_ray.config import InputError, validate
from mshisto_ray.contrastive.config import PretrainConfig
from mshisto_ray.contrastive.pair_batches import PAIRS
from mshisto_ray.contrastive.pairs import draw_batch
from mshisto_ray.contrastive.validation import Validation
from mshisto_ray.training.held_out import split_patients
from mshisto_ray.training.reading import HeldTiles, IndexedTileReader


class Damaged:
    """Reads tiles, but returns some as unreadable, with junk for pixels."""

    def __init__(self, reader, share, junk):
        self._reader, self._share, self._junk = reader, share, junk

    def __call__(self, tiles):
        held = self._reader(tiles)
        lost = np.random.default_rng(0).random(len(tiles)) < self._share
        held.pixels[lost] = self._junk
        return HeldTiles(tiles, held.pixels, held.readable & ~lost)


class Model(torch.nn.Module):
    """Embeddings are colours, projections their differences."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.eye(3))

    def embed_and_project(self, images):
        x = torch.cat([images.mean((2, 3)), images.std((2, 3))], 1)
        return x, (x - x.roll(1, 1)) @ torch.ones(6, 4)


class Stepper:
    model = Model()

    def normalise(self, images):
        return images

    def autocast(self):
        return torch.autocast("cpu", enabled=False)


@pytest.fixture(scope="module")
def settings(phantom):
    near = {"near_um": 100, "far_um": 400}
    pairs = {"name": "multi_scale", "same_slide": "by_distance", **near}
    pairs |= {"slides_per_batch": 1, "places_per_slide": 1}
    raw = {"tiles": phantom / "tiles", "out": "out", "pairs": pairs}
    raw["validation"] = {**near, "pairs": 60}
    return validate(PretrainConfig, raw)


def measure(settings, directory, index, share, junk, batches=3):
    reader = Damaged(IndexedTileReader(directory, index, 2), share, junk)
    _, held_out = split_patients(index, 0.5, 0)
    config = settings.validation.model_copy(update={"batches": batches})
    given = config, settings.pairs, 32
    validation = Validation(index, reader, held_out, *given)
    loss = components.build("mshisto_ray.contrastive.losses", settings.loss)
    return validation(Stepper(), loss)


def test_unreadable_tiles_do_not_count(settings, directory, index):
    white = measure(settings, directory, index, 0.3, 255)
    black = measure(settings, directory, index, 0.3, 0)
    assert white == black
    assert {"val_near_far_auc", "val_recall_at_10", "val_loss"} <= white.keys()
    assert measure(settings, directory, index, 0.0, 0) != white


def test_the_loss_is_the_mean_of_several_batches(settings, directory, index):
    found = measure(settings, directory, index, 0.0, 0)["val_loss"]
    reader, model = IndexedTileReader(directory, index, 2), Model()
    _, held_out = split_patients(index, 0.5, 0)
    part = index.subset(held_out)
    source = components.build(PAIRS, settings.pairs, part)
    loss = components.build("mshisto_ray.contrastive.losses", settings.loss)
    losses = []
    for step in range(50):
        batch = draw_batch(source, 0, step, 16)
        if not (batch.positive.any() and batch.negative.any()):
            continue
        images = torch.from_numpy(reader(held_out[batch.tiles]).pixels)
        images = images.permute(0, 3, 1, 2).float() / 255
        _, z = model.embed_and_project(images)
        relations = torch.from_numpy(batch.positive), torch.from_numpy(batch.negative)
        losses.append(float(loss(z.detach(), *relations)))
    assert found == pytest.approx(np.mean(losses[:3]), rel=1e-4)
    assert np.std(losses[:3]) > 0
    alone = measure(settings, directory, index, 0.0, 0, batches=1)["val_loss"]
    assert alone == pytest.approx(losses[0], rel=1e-4)


def test_nothing_readable_is_refused(settings, directory, index):
    with pytest.raises(InputError, match="too damaged for any measure"):
        measure(settings, directory, index, 1.0, 0)


def test_slides_too_small_for_any_measure_are_refused(settings, directory, index):
    given = settings.validation, settings.pairs, 32
    with pytest.raises(InputError, match="too small, too few or too damaged"):
        Validation(index, IndexedTileReader(directory, index, 1), np.array([0]), *given)
