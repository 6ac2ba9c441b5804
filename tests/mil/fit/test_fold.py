import dataclasses

import numpy as np
import pytest
import torch
from fixtures.parts import examples, held

from mshisto_ray import components, config
from mshisto_ray.config import InputError
from mshisto_ray.mil.fit.batches import Batches
from mshisto_ray.mil.fit.config import TrainConfig
from mshisto_ray.mil.fit.fold import build_model, fit_fold
from mshisto_ray.mil.fit.fold_model import FoldTask, count_steps
from mshisto_ray.mil.fit.scoring import log_probabilities
from mshisto_ray.mil.fit.standardisation import fit_standardisation, slide_moments
from mshisto_ray.mil.model import POOLINGS

CPU = torch.device("cpu")
QUICK = {"hidden": [8], "epochs": 3, "optimiser": {"lr": 0.01}, "early_stopping": None}


def settings(**keys):
    return config.validate(TrainConfig, QUICK | keys)


def fit(bags, train, validation=(), stream=(0, 0), **keys):
    fitted = fit_standardisation(bags, slide_moments(bags), np.asarray(train))
    training, held_out = settings(**keys), np.asarray(validation, dtype=int)
    num_steps = count_steps(len(train), training)
    task = FoldTask(fitted, np.asarray(train), held_out, stream, num_steps)
    return fit_fold(bags, task, training, CPU)


def weights(model):
    return torch.cat([p.flatten() for p in model.model.parameters()])


def predict(bags, model, index):
    batches = Batches(bags, model.standardisation, CPU)
    return log_probabilities(model.model, batches, np.asarray(index))


@pytest.mark.parametrize("part", examples(POOLINGS))
@pytest.mark.parametrize(
    ("classes", "batch_size"), [(2, 4), pytest.param(3, 8, marks=pytest.mark.slow)]
)
def test_every_pooling_learns_a_planted_instance(planted, part, classes, batch_size):
    name, keys = part
    # One instance in six cannot lift a mean of probabilities above one half.
    everywhere = components.declaration(POOLINGS, name, "DILUTES", False)
    bags = planted(num=120, classes=classes, everywhere=everywhere)
    lr = held(POOLINGS, name, "LEARNING_RATE", 0.02)
    model = fit(
        bags, range(90), pooling={"name": name, **keys}, hidden=[16], epochs=15,
        batch_size=batch_size, dropout=0, optimiser={"lr": lr},
    )  # fmt: skip
    found = predict(bags, model, range(90, 120)).argmax(1).numpy()
    assert (found == bags.targets[90:]).mean() >= 0.8
    assert model.history[-1]["loss"] < 0.5 * model.history[0]["loss"]


def test_seed_and_stream_decide_and_the_global_state_does_not(planted):
    bags = planted()
    keys = {"dropout": 0.5, "noise": {"name": "gaussian", "sigma": 0.5}}
    torch.manual_seed(1)
    one = weights(fit(bags, range(30), **keys))
    torch.manual_seed(2)
    assert torch.equal(one, weights(fit(bags, range(30), **keys)))
    others = [
        weights(fit(bags, range(30), stream=(0, 1), **keys)),
        weights(fit(bags, range(30), stream=(1, 0), **keys)),
        weights(fit(bags, range(30), seed=1, **keys)),
    ]
    for other in others:
        assert not torch.equal(one, other)


def test_training_leaves_the_global_random_state(planted):
    before = torch.random.get_rng_state()
    fit(planted(), range(30), dropout=0.5)
    assert torch.equal(before, torch.random.get_rng_state())


def test_noise_zero_is_no_noise_and_noise_changes_training_only(planted):
    bags = planted()

    def noisy(sigma):
        return fit(
            bags, range(30), noise={"name": "gaussian", "sigma": sigma}, dropout=0
        )

    plain = fit(bags, range(30), dropout=0)
    assert torch.equal(weights(noisy(0.0)), weights(plain))
    disturbed = noisy(1.0)
    assert not torch.equal(weights(disturbed), weights(plain))
    one, two = predict(bags, disturbed, [5]), predict(bags, disturbed, [5])
    assert torch.equal(one, two)


def test_batches_average_their_bags(planted):
    """One step of SGD on a batch is the mean of the bags' gradients."""
    bags = planted(num=6)
    plain = {"name": "sgd", "lr": 0.1, "weight_decay": 0, "momentum": 0}
    keys = {"epochs": 1, "dropout": 0, "hidden": [], "batch_size": 6}
    one_step = settings(**keys, optimiser=plain)
    no_step = settings(**keys, optimiser={**plain, "lr": 1e-30})
    fitted = fit_standardisation(bags, slide_moments(bags), np.arange(6))

    def after(training, index):
        none = np.array([], dtype=int)
        task = FoldTask(fitted, np.array(index), none, (0, 0), 1)
        return weights(fit_fold(bags, task, training, CPU))

    start = after(no_step, range(6))
    together = after(one_step, range(6)) - start
    steps = [after(one_step, [i]) - start for i in range(6)]
    torch.testing.assert_close(together, sum(steps) / 6, rtol=1e-4, atol=1e-7)


def test_one_bag_a_step_equals_the_plain_loop(planted):
    """The fused steps equal those of the formula and plain SGD."""
    bags, train = planted(num=12), np.arange(10)
    sgd = {"name": "sgd", "lr": 0.02, "weight_decay": 0.01, "momentum": 0.9}
    sgd |= {"schedule": "constant", "warmup_steps": 0}
    keys = {"pooling": {"name": "attention", "hidden": 5}, "dropout": 0.5}
    training = settings(**keys, optimiser=sgd, seed=3)
    fitted = fit_standardisation(bags, slide_moments(bags), train)
    task = FoldTask(fitted, train, train[:0], (1, 2), 30)
    fast = fit_fold(bags, task, training, CPU)

    words = np.random.SeedSequence([3, 1, 2]).generate_state(3, np.uint64)
    order = np.random.default_rng(words[0])
    with torch.random.fork_rng([]):
        torch.manual_seed(int(words[2] >> 1))
        model = build_model(training, bags)
        pool, made = model.pooling, list(model.parameters())
        optimiser = torch.optim.SGD(
            made, 0.02, momentum=0.9, weight_decay=0.01, foreach=False
        )
        draws = np.stack([train, np.zeros_like(train)], 1)
        orders = [order.permutation(draws)[:, 0] for _ in range(3)]
        for bag in np.concatenate(orders):
            h = model.transform(fitted(torch.from_numpy(bags.read(bag)[0])))
            weights_of = pool.score(pool.tanh(h).tanh())[:, 0].exp()
            z = (weights_of[:, None] * h).sum(0) / weights_of.sum()
            p = pool.classifier(z).sigmoid()
            optimiser.zero_grad()
            (-(p if bags.targets[bag] else 1 - p).log()).sum().backward()
            optimiser.step()
    plain = torch.cat([p.flatten() for p in made])
    torch.testing.assert_close(weights(fast), plain, rtol=1e-4, atol=1e-5)


def test_early_stopping_keeps_the_best_epoch(planted):
    bags = planted(num=60)
    stopping = {"metric": "loss", "patience": 3}
    model = fit(
        bags, range(30), range(30, 45), early_stopping=stopping, epochs=60,
        optimiser={"lr": 0.05}, hidden=[32],
    )  # fmt: skip
    losses = [record["val_loss"] for record in model.history]
    assert model.epochs == int(np.argmin(losses)) + 1
    assert len(losses) == min(60, model.epochs + 3) < 60
    logs = predict(bags, model, range(30, 45))
    loss = -logs[torch.arange(15), torch.from_numpy(bags.targets[30:45])].mean()
    assert loss.item() == pytest.approx(min(losses), rel=1e-6)


def test_without_early_stopping_validation_bags_change_nothing(planted):
    bags = planted(num=60)
    one, two = fit(bags, range(30), range(30, 45)), fit(bags, range(30))
    assert torch.equal(weights(one), weights(two)) and one.epochs == 3


def test_bags_outside_the_fold_change_nothing(planted):
    bags = planted(num=60)
    changed = bags.features.values.copy()
    changed[bags.features.offsets[40] :] = 1e4
    other = dataclasses.replace(
        bags, features=dataclasses.replace(bags.features, values=changed)
    )
    keys = {"early_stopping": {"patience": 2}}
    one = fit(bags, range(30), range(30, 40), **keys)
    two = fit(other, range(30), range(30, 40), **keys)
    assert torch.equal(weights(one), weights(two))


def test_divergence_is_reported(planted):
    optimiser = {"name": "sgd", "lr": 1e30, "momentum": 0}
    with pytest.raises(InputError, match=r"diverged in epoch \d.*optimiser\.lr, now 1"):
        fit(planted(), range(30), optimiser=optimiser)


@pytest.mark.parametrize("name", ["adam", "adamw", "sgd"])
def test_every_optimiser_lowers_the_loss(planted, name):
    bags = planted()
    model = fit(bags, range(40), epochs=10, optimiser={"name": name, "lr": 0.01})
    assert model.history[-1]["loss"] < model.history[0]["loss"]


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"pooling": {"name": "topk"}}, "pooling: no 'topk' in poolings; have att"),
        (
            {"pooling": {"name": "attention", "heads": 2}},
            "takes hidden, per_class; got 'heads'",
        ),
        ({"noise": {"name": "salt"}}, "noise: no 'salt' in noises; have .*gaussian"),
        ({"noise": {"name": "gaussian", "sigma": -1}}, r"gaussian\.sigma"),
        ({"hidden": [0]}, r"hidden\.0"),
        ({"dropout": 1}, "dropout"),
        ({"learning_rate": 1}, "learning_rate: unknown key; known: batch_size"),
        ({"optimiser": {"lr": 0}}, r"optimiser\.lr"),
        ({"optimiser": {"name": "lion"}}, r"optimiser\.name"),
    ],
)
def test_bad_settings_are_refused(keys, message):
    with pytest.raises(InputError, match=message):
        settings(**keys)
