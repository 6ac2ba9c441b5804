"""Gradients over two real gloo workers, and over chunks, against one whole batch."""

import subprocess
import sys

import pytest
import torch
from torch import nn

from mshisto_ray.contrastive.losses import margin, nt_xent, supervised_contrastive
from mshisto_ray.training.joint_batch import backward_in_chunks, gather
from mshisto_ray.training.model import ModelConfig, build_model

NUM = 12
LOSSES = {
    "margin": margin.build(),
    "supervised_contrastive": supervised_contrastive.build(),
    "nt_xent": nt_xent.build(),
}


def batch_free():
    torch.manual_seed(5)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2), nn.GroupNorm(2, 8), nn.ReLU(), nn.Flatten(),
        nn.Linear(8 * 49, 16), nn.LayerNorm(16), nn.ReLU(), nn.Linear(16, 6),
    )  # fmt: skip


def batch_norm(norm):
    """A network whose running statistics are those of other images.

    In float64: convolutions of other batch sizes round otherwise, here up to 5e-6.
    """
    projection = {"hidden": (8,), "dim": 6}
    config = ModelConfig(backbone="test_resnet", projection=projection)
    net = build_model(config, 16, 5)
    net(3 * torch.randn(32, 3, 16, 16, generator=torch.Generator().manual_seed(4)))
    net.norm = norm
    return net.train().double()


NETWORKS = {
    "batch_free": batch_free,
    "frozen": lambda: batch_norm("frozen"),
    "own": lambda: batch_norm("own"),
}


def images(net):
    """Images in the precision of the network."""
    drawn = torch.randn(NUM, 3, 16, 16, generator=torch.Generator().manual_seed(2))
    return drawn.to(next(net.parameters()).dtype)


def relations():
    """Nine related pairs in the first half, one across; the last has none."""
    label = torch.tensor([0, 0, 0, 1, 1, 2, 2, 3, 4, 5, 6, 7])
    positive = (label[:, None] == label) & ~torch.eye(NUM, dtype=torch.bool)
    positive[0, 8] = positive[8, 0] = True
    return positive, (label[:, None] != label) & ~positive


def gradients(net):
    return torch.cat([p.grad.reshape(-1) for p in net.parameters()])


def whole(loss, network="batch_free"):
    net = NETWORKS[network]()
    value = loss(net(images(net)), *relations())
    value.backward()
    return value.item(), gradients(net)


WORKER = """
import importlib.util, os, sys, torch
from itertools import product
from pathlib import Path
from torch import distributed
from torch.nn.parallel import DistributedDataParallel
spec = importlib.util.spec_from_file_location("cases", sys.argv[1])
cases = importlib.util.module_from_spec(spec)
spec.loader.exec_module(cases)
from mshisto_ray.training.joint_batch import backward_in_chunks, gather
from mshisto_ray.training.clock import Clock, time_gradients
folder, world = Path(sys.argv[2]), 2
torch.set_num_threads(1)
cases.NETWORKS["frozen"]()  # imports for seconds, once for both
child = os.fork()
rank = 0 if child else 1
distributed.init_process_group(
    "gloo", init_method=(folder / "meet").as_uri(), rank=rank, world_size=world
)
found = {}
for (network, make), (name, loss), chunks in product(
    cases.NETWORKS.items(), cases.LOSSES.items(), (1, 2)
):
    net = make()
    model = DistributedDataParallel(net)
    clock = Clock(torch.device("cpu"))
    time_gradients(model, clock)
    own = cases.images(net).chunk(world)[rank]
    joint = lambda z: loss(gather(z), *cases.relations())
    if chunks == 1:
        value = joint(model(own))
        value.backward()
    else:
        value = backward_in_chunks(model, own.chunk(2), joint, model.no_sync)
    clock.mark_backward()
    assert clock.take()["communication"] > 0
    found[network, name, chunks] = value.detach(), cases.gradients(net)
torch.save(found, folder / f"{rank}.pt")
distributed.destroy_process_group()
if child:
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.fixture(scope="module")
def two_workers(tmp_path_factory):
    folder = tmp_path_factory.mktemp("gloo")
    subprocess.run(
        [sys.executable, "-c", WORKER, __file__, str(folder)], timeout=300, check=True
    )
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(2)]


@pytest.mark.parametrize("chunks", [1, 2])
@pytest.mark.parametrize("network", ["batch_free", "frozen"])
@pytest.mark.parametrize("name", LOSSES)
def test_two_workers_have_the_gradient_of_the_joint_batch(
    two_workers, network, name, chunks
):
    value, gradient = whole(LOSSES[name], network)
    for found in two_workers:
        worker_value, worker_gradient = found[network, name, chunks]
        assert worker_value.item() == pytest.approx(value, rel=1e-6)
        error = (worker_gradient - gradient).norm() / gradient.norm()
        assert error < 1e-6


def test_workers_that_normalise_apart_have_another_gradient(two_workers):
    _, gradient = whole(LOSSES["nt_xent"], "own")
    _, found = two_workers[0]["own", "nt_xent", 1]
    assert (found - gradient).norm() > 0.01 * gradient.norm()


@pytest.mark.parametrize("name", LOSSES)
def test_chunks_of_any_size_have_the_gradient_of_the_batch(name):
    value, gradient = whole(LOSSES[name])
    for sizes in ([5, 7], [1] * NUM, [NUM]):
        net = batch_free()
        found = backward_in_chunks(
            net, images(net).split(sizes), lambda z: LOSSES[name](z, *relations())
        )
        assert found.item() == pytest.approx(value, rel=1e-6)
        assert (gradients(net) - gradient).norm() < 1e-6 * gradient.norm()


def test_without_other_workers_nothing_is_gathered():
    z = torch.ones(2, 3)
    assert gather(z) is z
