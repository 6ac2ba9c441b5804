"""Several gloo workers train what one process trains, on the same batches."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from mshisto_ray.config import InputError
from mshisto_ray.training.joint_batch import Share

# It processes every image of a batch on its own.
SETTINGS = {
    "pairs": {
        "name": "multi_scale",
        "same_slide": "by_distance",
        "places_per_slide": 1,
        "slides_per_batch": 1,
        "near_um": 100,
        "far_um": 400,
    },
    "model": {
        "backbone": "convnext_atto",
        "options": {"num_classes": 0, "depths": [1, 1, 1, 1], "dims": [8, 16, 16, 16]},
        "projection": {"hidden": [32], "dim": 16, "batch_norm": False},
    },
    "run": {"precision": "float32"},
    "optimiser": {"name": "sgd", "lr": 0.1},
    "batch_size": 16,
    "steps": 5,
    "blocks": {"tiles": 200, "slides": 3, "window_um": 200, "reuse": 0.2},
    "validation": {"every": 2, "near_um": 100, "far_um": 400, "pairs": 40},
}
WORKER = """
import json, sys, torch
from pathlib import Path
from torch import distributed
from mshisto_ray.config import validate
from mshisto_ray.training.joint_batch import Share
from mshisto_ray.contrastive.pretrain import pretrain_share
from mshisto_ray.contrastive.config import PretrainConfig, load_index
from mshisto_ray.training.step import Stepper
torch.set_num_threads(1)
folder, rank, workers = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
if workers > 1:
    meet = (folder / f"meet-{workers}").as_uri()
    distributed.init_process_group(
        "gloo", init_method=meet, rank=rank, world_size=workers
    )
out = folder / f"out-{workers}"
out.mkdir(exist_ok=True)
images, train = [], Stepper.__call__
def recording(self, tiles, *others):
    images.append(tiles.clone())
    return train(self, tiles, *others)
Stepper.__call__ = recording
raw = json.loads(sys.argv[4]) | {"out": str(out)}
config = validate(PretrainConfig, raw)
share, device = Share(rank, workers), torch.device("cpu")
pretrain_share(config, *load_index(config), print, share, device)
torch.save(torch.stack(images), folder / f"images-{workers}-{rank}.pt")
if workers > 1:
    distributed.destroy_process_group()
"""


def train(folder, settings, workers):
    """Images of every step, and the encoder's weights."""
    command = [sys.executable, "-c", WORKER, str(folder)]
    processes = [
        subprocess.Popen([*command, str(rank), str(workers), json.dumps(settings)])
        for rank in range(workers)
    ]
    assert [p.wait(timeout=600) for p in processes] == [0] * workers
    paths = [folder / f"images-{workers}-{rank}.pt" for rank in range(workers)]
    images = torch.cat([torch.load(path, weights_only=True) for path in paths], 1)
    found = folder / f"out-{workers}"
    return images, load_file(found / "encoder" / "encoder.safetensors")


@pytest.mark.slow
@pytest.mark.ray
def test_workers_remember_what_one_process_does(phantom, tmp_path):
    """A memory of every tile after steps of the joint batch, on each worker."""
    keys = {
        "pairs": {"name": "single_tile"},
        "loss": {"name": "memory_bank", "negatives": 50},
        "best": "val_near_far_auc",
    }
    settings = SETTINGS | keys | {"tiles": str(phantom / "tiles")}
    found = []
    for workers in (1, 2):
        _, weights = train(tmp_path, settings, workers)
        state = tmp_path / f"out-{workers}/state.pt"
        kept = torch.load(state, weights_only=True)["loss"]
        found.append((weights, kept))
    (weights, kept), (same_weights, same) = found
    for name, value in weights.items():
        np.testing.assert_allclose(same_weights[name], value, rtol=2e-5, atol=2e-6)
    assert kept["steps"] == same["steps"] == 5
    for name in ("memory", "log_normaliser"):
        np.testing.assert_allclose(same[name], kept[name], rtol=2e-5, atol=2e-6)
    lengths = torch.linalg.vector_norm(kept["memory"], dim=1)
    np.testing.assert_allclose(lengths, 1, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.ray
# A head on the maps leaves the backbone's last norm unused.
@pytest.mark.parametrize(
    ("workers", "seen"), [(2, "pooled"), (4, "pooled"), (2, "maps")]
)
def test_workers_see_the_batches_and_reach_the_weights_of_one(
    phantom, tmp_path, workers, seen
):
    model = dict(SETTINGS["model"])
    model["projection"] = {**model["projection"], "input": seen}
    settings = SETTINGS | {"tiles": str(phantom / "tiles"), "model": model}
    images, weights = train(tmp_path, settings, 1)
    same_images, same_weights = train(tmp_path, settings, workers)
    assert images.shape == (5, 16, 64, 64, 3)
    assert torch.equal(images, same_images)
    moved = 0.0
    for name, value in weights.items():
        np.testing.assert_allclose(same_weights[name], value, rtol=2e-5, atol=2e-6)
        moved = max(moved, float(value.std()))
    assert moved > 0


def test_a_batch_that_does_not_divide_is_refused():
    assert [Share(r, 3).part(18) for r in range(3)] == [
        slice(0, 6), slice(6, 12), slice(12, 18),
    ]  # fmt: skip
    with pytest.raises(InputError, match="take a multiple of 6"):
        Share(0, 3).part(16)
