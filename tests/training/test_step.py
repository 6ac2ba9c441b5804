import copy
import itertools
import math

import pytest
import torch
from torch import nn

from mshisto_ray import components
from mshisto_ray.config import InputError, validate
from mshisto_ray.training.config import TrainingConfig
from mshisto_ray.training.model import (
    ContrastiveModel,
    ModelConfig,
    build_model,
    check_micro_batch,
)
from mshisto_ray.training.optimiser import OptimiserConfig, learning_rate
from mshisto_ray.training.step import Stepper, Workers

LOSSES = "mshisto_ray.contrastive.losses"
NUM = 8


NETWORK = {"backbone": "test_resnet"}


def training(**keys) -> TrainingConfig:
    given = {"tiles": "/tiles", "out": "/out", "mean": (0.5,) * 3, **keys}
    return validate(TrainingConfig, given)


def stepper(loss="nt_xent", half=False, micro_batch=None, **optimiser) -> Stepper:
    model = build_model(validate(ModelConfig, NETWORK), 32, 0)
    part = components.check(LOSSES, components.Part(name=loss))
    precision = "bfloat16" if half else "float32"
    config = training(
        optimiser={"lr": 1e-3, "schedule": "constant", **optimiser},
        run={"precision": precision, "micro_batch": micro_batch},
        steps=20,
        std=(0.25,) * 3,
    )
    return Stepper(model, components.build(LOSSES, part), config)


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(0)
    tiles = torch.randint(0, 256, (NUM, 32, 32, 3), generator=generator)
    pair = torch.arange(NUM) // 2
    positive = (pair[:, None] == pair) & ~torch.eye(NUM, dtype=torch.bool)
    return tiles.to(torch.uint8), (positive, pair[:, None] != pair)


def weights(model: nn.Module) -> dict[str, torch.Tensor]:
    return copy.deepcopy(model.state_dict())


@pytest.mark.parametrize("name", ["adamw", "adam", "sgd"])
@pytest.mark.parametrize("half", [False, True])
def test_steps_lower_the_loss(name, half, batch):
    step = stepper(half=half, name=name, lr=0.01 if name == "sgd" else 1e-3)
    losses = [step(*batch, seed=0, step=number).loss for number in range(12)]
    assert losses[-1] < losses[0] - 0.1


@pytest.mark.parametrize("options", [{}, {"drop_rate": 0.5, "drop_path_rate": 0.3}])
def test_a_resumed_training_is_the_same_to_the_bit(batch, options, monkeypatch):
    monkeypatch.setitem(NETWORK, "options", {"num_classes": 0, **options})
    whole = stepper()
    for number in range(4):
        whole(*batch, seed=0, step=number)
    first = stepper()
    for number in range(2):
        first(*batch, seed=0, step=number)
    state = copy.deepcopy(first.state_dict())
    second = stepper()
    second.load_state_dict(state)
    for number in range(2, 4):
        second(*batch, seed=0, step=number)
    for name, value in whole.model.state_dict().items():
        assert torch.equal(second.model.state_dict()[name], value)


class Poisoned(nn.Module):
    """A loss that is not finite at some steps."""

    def __init__(self, factor: float, steps: set[int]):
        super().__init__()
        self.calls, self.factor, self.steps = 0, factor, steps

    def forward(self, z, positive, negative):
        self.calls += 1
        return z.float().square().sum() * (
            self.factor if self.calls - 1 in self.steps else 1.0
        )


@pytest.mark.parametrize("factor", [math.nan, math.inf])
def test_no_number_that_is_not_finite_reaches_a_weight_or_statistic(factor, batch):
    step = stepper()
    step._loss = Poisoned(factor, {1})
    assert step(*batch, seed=0, step=0).taken
    before, state = weights(step.model), copy.deepcopy(step.optimiser.state_dict())
    assert not step(*batch, seed=0, step=1).taken and step.skipped == 1
    for name, value in step.model.state_dict().items():
        assert torch.equal(value, before[name])
    for key, held in step.optimiser.state_dict()["state"].items():
        for name, value in held.items():
            assert torch.equal(value, state["state"][key][name])
    assert step(*batch, seed=0, step=2).taken


def test_batch_statistics_of_a_bad_forward_pass_are_restored(batch):
    step = stepper()
    with torch.no_grad():
        step._mean.fill_(math.nan)
    before = weights(step.model)
    assert not step(*batch, seed=0, step=0).taken
    for name, value in step.model.state_dict().items():
        assert torch.equal(value, before[name])


def test_training_that_stays_bad_ends_with_what_to_do(batch):
    step = stepper()
    step._loss = Poisoned(math.nan, set(range(100)))
    with pytest.raises(InputError, match=r"10 steps in a row.*Lower optimiser.lr"):
        for number in range(20):
            step(*batch, seed=0, step=number)
    assert step.skipped == 10
    assert all(value.isfinite().all() for value in step.model.state_dict().values())


def test_weights_that_overflow_end_the_training(batch):
    step = stepper(name="sgd", lr=1e38)
    step._loss = Poisoned(1e6, {0})
    with pytest.raises(InputError, match="step 0 made weights too large"):
        step(*batch, seed=0, step=0)


def test_bfloat16_gives_nearly_the_loss_of_float32(batch):
    losses = [stepper(half=half)(*batch, seed=0, step=0).loss for half in (0, 1)]
    assert losses[1] == pytest.approx(losses[0], rel=1e-2)


@pytest.mark.parametrize("micro_batch", [1, 3, 8])
def test_micro_batches_learn_what_the_batch_does(micro_batch, batch, monkeypatch):
    monkeypatch.setitem(NETWORK, "norm", "frozen")
    parts = stepper(name="sgd", lr=0.1, micro_batch=micro_batch)
    seen = []
    parts.model.register_forward_pre_hook(lambda _, given: seen.append(len(given[0])))
    whole = stepper(name="sgd", lr=0.1)
    for number in range(3):
        one, two = (s(*batch, seed=0, step=number) for s in (parts, whole))
        assert one.loss == pytest.approx(two.loss, rel=1e-5)
        torch.testing.assert_close(one.projections, two.projections)
    assert max(seen) == micro_batch


def test_what_dropout_leaves_out_is_the_same_in_both_passes(batch, monkeypatch):
    monkeypatch.setitem(NETWORK, "norm", "frozen")
    monkeypatch.setitem(NETWORK, "options", {"num_classes": 0, "drop_path_rate": 0.5})
    step, found = stepper(micro_batch=4), []
    step.model.register_forward_hook(lambda *given: found.append(given[2].detach()))
    step(*batch, seed=0, step=0)
    first, second, *again = found
    assert torch.equal(first, again[0]) and torch.equal(second, again[1])
    step(*batch, seed=0, step=1)
    assert not torch.equal(first, found[4])


def test_parts_of_a_batch_with_own_statistics_are_refused():
    model = build_model(validate(ModelConfig, NETWORK), 32, 0)
    with pytest.raises(InputError, match=r"run\.micro_batch.*model\.norm=frozen"):
        check_micro_batch(model, 4)
    check_micro_batch(model, None)


class Plain(ContrastiveModel):
    """Without batch statistics, so that parts of a batch are independent."""

    def __init__(self):
        nn.Module.__init__(self)
        self.linear = nn.Linear(3 * 32 * 32, 8)

    def forward(self, x):
        return self.linear(x.flatten(1))


@pytest.mark.parametrize("loss", ["margin", "nt_xent", "supervised_contrastive"])
def test_gathered_gradients_add_up_to_those_of_one_process(loss, batch):
    """Two workers that see half of the images each, gathered by hand."""
    tiles, relations = batch
    torch.manual_seed(0)
    model = Plain()

    def make(gather=None):
        own = stepper(loss)
        config = training(
            optimiser={"name": "sgd", "lr": 1e-9, "momentum": 0},
            run={"precision": "float32"},
            steps=9,
            std=(0.5,) * 3,
        )
        workers = Workers(gather, lambda model: model) if gather else None
        return Stepper(model, own._loss, config, workers)

    alone = make()(tiles, relations, seed=0, step=0)
    wanted = model.linear.weight.grad.clone()
    total = torch.zeros_like(wanted)
    for first in (0, NUM // 2):
        own = slice(first, first + NUM // 2)

        def gather(part, own=own):
            whole = alone.projections.clone()
            return torch.cat([whole[: own.start], part, whole[own.stop :]])

        made = make(gather)(tiles[own], relations, seed=0, step=0, first=own.start)
        assert made.loss == pytest.approx(alone.loss, rel=1e-5)
        total += model.linear.weight.grad
    error = ((total - wanted).norm() / wanted.norm()).item()
    assert error < 1e-4, error


def test_learning_rate_rises_then_follows_its_schedule():
    config = OptimiserConfig(lr=2.0, warmup_steps=4, schedule="cosine")
    rates = [learning_rate(config, step, 104) for step in range(105)]
    assert rates[:5] == pytest.approx([0.5, 1.0, 1.5, 2.0, 2.0])
    assert rates[54] == pytest.approx(1.0) and rates[104] == pytest.approx(0)
    assert all(a >= b for a, b in itertools.pairwise(rates[4:]))


def test_decay_is_inverse_in_time():
    config = OptimiserConfig(lr=1e-4, schedule="constant", decay=1e-6)
    assert learning_rate(config, 0, 10) == 1e-4
    assert learning_rate(config, 1_000_000, 10) == pytest.approx(0.5e-4)
