"""Bags of images: how they are drawn, learned and flipped; frozen features."""

import itertools

import numpy as np
import pytest
import torch

from mshisto_ray import components
from mshisto_ray.components import Part
from mshisto_ray.jobs import reproduce
from mshisto_ray.mil.model import POOLINGS
from mshisto_ray.studies import _image_bags, _study, ilse2018_mnist_bags
from mshisto_ray.studies._image_bags import ImageBags, ImageTraining
from mshisto_ray.studies._image_study import KINDS
from mshisto_ray.studies._nucleus_net import NucleusNet

CPU = torch.device("cpu")


def digits():
    """Pictures of one grey level per digit."""
    labels = np.arange(2000) % 10
    shape = (2000, 28, 28)
    return np.broadcast_to((labels * 25)[:, None, None], shape).astype(np.uint8), labels


def test_mnist_bags_are_balanced_and_hold_a_nine_where_positive():
    images, labels = digits()
    rng = np.random.default_rng(0)
    bags = ilse2018_mnist_bags.draw_bags(images, labels, 60, 10, rng)
    sizes = np.diff(bags.offsets)
    assert bags.targets.mean() == 0.5 and abs(sizes.mean() - 10) < 1.5
    for target, (a, b) in zip(
        bags.targets, itertools.pairwise(bags.offsets), strict=True
    ):
        nines = bags.images[a:b, 0, 0, 0] == 9 * 25
        assert (nines == bags.instance[a:b]).all() and nines.any() == bool(target)


def test_the_size_of_a_mnist_bag_tells_nothing_of_its_class():
    """Where sizes were drawn again with the digits, negative bags would be small."""
    images, labels = digits()
    rng = np.random.default_rng(0)
    bags = ilse2018_mnist_bags.draw_bags(images, labels, 400, 100, rng)
    sizes = np.diff(bags.offsets)
    assert abs(sizes[::2].mean() - sizes[1::2].mean()) < 6
    assert 16 < sizes.std() < 24
    # Digits of bags without a nine are the other nine, equally often.
    shares = np.bincount(bags.images[:, 0, 0, 0][np.repeat(bags.targets == 0, sizes)])
    assert np.allclose(shares[np.arange(9) * 25] / shares.sum(), 1 / 9, atol=0.01)


@pytest.mark.parametrize(
    ("network", "shape"),
    [
        (ilse2018_mnist_bags.LeNet, (3, 1, 28, 28)),
        (NucleusNet, (3, 3, 27, 27)),
    ],
)
def test_networks_take_the_papers_images(network, shape):
    model = network()
    assert model(torch.zeros(shape)).shape == (3, model.width)


class Mean(torch.nn.Sequential):
    width = 3

    def __init__(self):
        super().__init__(torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())


def test_image_bags_are_learned_and_attention_finds_the_instances():
    rng = np.random.default_rng(0)
    offsets = np.arange(0, 401, 5)
    targets = np.arange(80) % 2
    instance = np.zeros(400, bool)
    instance[offsets[:-1][targets == 1] + 2] = True
    images = rng.integers(100, 140, (400, 6, 6, 3)).astype(np.uint8)
    images[instance, :, :, 0] += 100
    bags = ImageBags(images, instance, offsets, targets)
    settings = ImageTraining(lr=0.05, weight_decay=0, epochs=12, flips=True)
    train, test = np.arange(60), np.arange(60, 80)
    model = _image_bags.fit(Mean, "attention", bags, train, settings, 0, CPU)
    found, area = _image_bags.predict(model, bags, test)
    assert (found.argmax(1) == targets[test]).all() and area == 1.0
    again = _image_bags.fit(Mean, "attention", bags, train, settings, 0, CPU)
    np.testing.assert_array_equal(_image_bags.predict(again, bags, test)[0], found)


def test_validation_chooses_the_epoch_and_colours_change_the_training():
    rng = np.random.default_rng(0)
    offsets, targets = np.arange(0, 61, 3), np.arange(20) % 2
    images = rng.integers(0, 200, (60, 6, 6, 3)).astype(np.uint8)
    train, held = np.arange(12), np.arange(12, 20)
    bright = np.where(np.arange(20) < 12, targets, 1 - targets)
    images[np.repeat(bright, 3) == 1] += 50  # the held-out bags say the opposite
    bags = ImageBags(images, np.zeros(60, bool), offsets, targets)

    def trained(epochs, validation=None, colour=0.0):
        settings = ImageTraining(0.3, 0, epochs, flips=False, colour=colour)
        return _image_bags.fit(
            Mean, "attention", bags, train, settings, 0, CPU, validation
        )

    def loss(model):
        pixels = model.standardise(images)
        return _image_bags._loss(model, bags, pixels, held)

    losses = [loss(trained(epochs)) for epochs in range(1, 6)]
    assert np.argmin(losses) < 4
    assert loss(trained(5, held)) == min(losses)
    weights = [p.detach() for p in trained(2).parameters()]
    jittered = [p.detach() for p in trained(2, colour=0.1).parameters()]
    assert any(not torch.equal(a, b) for a, b in zip(weights, jittered, strict=True))
    assert "colour" not in ImageTraining(0.1, 0, 1, flips=True).as_recipe()


def test_a_channel_that_is_the_same_everywhere_becomes_zero():
    images = np.full((2, 4, 4, 3), 7, np.uint8)
    images[0, :, :, 0] = 9
    bags = ImageBags(images, np.zeros(2, bool), np.array([0, 1, 2]), np.array([0, 1]))
    mean, std = _image_bags._moments(bags, np.arange(2))
    assert std[1:].tolist() == [1, 1] and std[0] > 0
    torch.testing.assert_close(mean[1:], torch.full((2,), 7 / 255))


def slow_nucleus_net():
    """The network as the paper draws it: ReLU before pooling, channels first."""
    made = NucleusNet()
    c1, p1, r1, c2, p2, r2, *rest = made
    return torch.nn.Sequential(c1, r1, p1, c2, r2, p2, *rest)


def test_training_on_images_equals_the_plain_loop():
    """Layout, order of ReLU and pooling, fused steps: the same model to rounding."""
    rng = np.random.default_rng(0)
    offsets = np.array([0, 3, 4, 9, 12])
    images = rng.integers(0, 256, (12, 27, 27, 3)).astype(np.uint8)
    bags = ImageBags(images, rng.random(12) < 0.5, offsets, np.array([0, 1, 1, 0]))
    train, settings = np.array([0, 2, 1]), ImageTraining(1e-3, 5e-4, 3, flips=True)
    fast = _image_bags.fit(NucleusNet, "attention", bags, train, settings, 5, CPU)

    pixels = np.concatenate([images[offsets[b] : offsets[b + 1]] for b in train]) / 255
    mean, std = pixels.mean((0, 1, 2)), pixels.std((0, 1, 2))
    order = np.random.default_rng(5)
    with torch.random.fork_rng([]):
        torch.manual_seed(5)
        network = slow_nucleus_net()
        pooling = components.build(POOLINGS, Part(name="attention"), 512, 2)
        parameters = [*network.parameters(), *pooling.parameters()]
        optimiser = torch.optim.Adam(parameters, 1e-3, weight_decay=5e-4, foreach=False)
        for bag in np.concatenate([order.permutation(train) for _ in range(3)]):
            turned = torch.from_numpy(images[offsets[bag] : offsets[bag + 1]]).clone()
            for i, turn in enumerate(torch.randint(8, (len(turned),)).tolist()):
                side = torch.rot90(turned[i].clone(), turn % 4)
                turned[i] = side.flip(0) if turn >= 4 else side
            h = (turned.numpy() / 255 - mean) / std
            h = torch.from_numpy(h.transpose(0, 3, 1, 2).copy()).float()
            out = pooling(network(h), torch.tensor([0, len(h)]))
            optimiser.zero_grad()
            out.loss(torch.tensor([bags.targets[bag]])).sum().backward()
            optimiser.step()
    found = [*fast.network.parameters(), *fast.pooling.parameters()]
    for one, two in zip(found, parameters, strict=True):
        torch.testing.assert_close(one.contiguous(), two, rtol=1e-4, atol=5e-5)


def test_flips_are_symmetries_of_each_image():
    image = torch.arange(16, dtype=torch.uint8).reshape(1, 4, 4, 1)
    torch.manual_seed(0)
    turned = _image_bags._flip(image.repeat(200, 1, 1, 1), _image_bags._symmetries(4))
    wanted = {
        tuple(torch.rot90(side, k, (1, 2)).flatten().tolist())
        for side in (image, image.flip(1))
        for k in range(4)
    }
    assert {tuple(t.flatten().tolist()) for t in turned} == wanted


def test_frozen_features_of_any_encoder_are_added_to_colours(
    tmp_path, make_study_config
):
    rng = np.random.default_rng(0)
    offsets, label = np.arange(0, 61, 3), np.arange(20) % 2
    patches = rng.integers(0, 100, (60, 27, 27, 3), dtype=np.uint8)
    patches[np.repeat(label, 3) == 1] += 100
    np.savez(
        tmp_path / "colon_bags27.npz",
        patches=patches,
        inst_label=np.zeros(60, bool),
        offsets=offsets,
        label=label,
        name=np.array([f"image{i}" for i in range(20)]),
    )
    keys = {"model": "test_resnet", "weights": "random", "num_classes": 0}
    encoder = {"name": "timm", "size": 32, "fit": "resize", **keys}
    settings = make_study_config(
        tmp_path, tmp_path / "out", name="ilse2018_colon", encoder=encoder, epochs=1
    )
    study = reproduce._study(settings)
    units = {unit.name: unit for unit in study.units()}
    frozen = units["frozen-embedding_mean"]
    digests = {units[f"{kind}-attention"].recipe["encoder"] for kind in KINDS}
    assert len(digests) == 2
    result = frozen.run()
    assert sorted(result.predictions.bag) == sorted(f"image{i}" for i in range(20))
    assert _study.measure([result])["auroc"].value > 0.9
    table = study.table({frozen.name: result})
    row = next(x for x in table.splitlines() if "embedding_mean, frozen" in x)
    assert _study.short(_study.measure([result])["auroc"].value) in row
    plain = make_study_config(tmp_path, tmp_path / "out", name="ilse2018_colon")
    names = [unit.name for unit in reproduce._study(plain).units()]
    assert "colour-attention" in names and "frozen-attention" not in names
