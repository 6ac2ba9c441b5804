"""Several workers fine-tune what one does: as a process group, and as a Ray job."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file

from mshisto_ray import config as configs
from mshisto_ray.config import InputError
from mshisto_ray.jobs import embed, finetune

JOBS = Path(__file__).parents[2] / "jobs"
pytestmark = [pytest.mark.slow, pytest.mark.ray, pytest.mark.timeout(1800)]
# It processes every image of a batch on its own.
BATCH_FREE = {
    "backbone": "convnext_atto",
    "options": {"num_classes": 0, "depths": [1, 1, 1, 1], "dims": [8, 16, 16, 16]},
}
WORKER = """
import json, sys, torch
from pathlib import Path
from torch import distributed
from mshisto_ray.config import validate
from mshisto_ray.training.joint_batch import Share
from mshisto_ray.tile_classification.finetune import finetune_share
from mshisto_ray.tile_classification.finetune_config import FinetuneConfig, load_data
torch.set_num_threads(1)
config = validate(FinetuneConfig, json.loads(sys.argv[1]))
rank, workers = int(sys.argv[2]), int(sys.argv[3])
config.out.mkdir(exist_ok=True)
if workers > 1:
    meet = (config.out / "meet").as_uri()
    distributed.init_process_group(
        "gloo", init_method=meet, rank=rank, world_size=workers
    )
finetune_share(config, load_data(config), print, Share(rank, workers))
if workers > 1:
    distributed.destroy_process_group()
"""


def train(settings, workers):
    command = [sys.executable, "-c", WORKER, json.dumps(settings)]
    processes = [
        subprocess.Popen([*command, str(rank), str(workers)]) for rank in range(workers)
    ]
    assert [p.wait(timeout=300) for p in processes] == [0] * workers
    return Path(settings["out"]) / "encoder"


def test_two_workers_reach_the_weights_of_one(config, tmp_path):
    optimiser = {"name": "sgd", "lr": 0.1}
    made = config(model=BATCH_FREE, optimiser=optimiser, batch_size=6)
    settings = made.model_dump(mode="json")
    one, two = (
        train(settings | {"out": str(tmp_path / str(workers))}, workers)
        for workers in (1, 2)
    )
    for name in ("encoder.safetensors", "projection.safetensors"):
        weights, same = load_file(one / name), load_file(two / name)
        for key, value in weights.items():
            np.testing.assert_allclose(same[key], value, rtol=2e-5, atol=2e-6)


def run_here(words):
    """The job in this process, for what needs no worker."""
    overrides = configs.parse_overrides(words[1:])
    finetune.run(configs.load(finetune.FinetuneJobConfig, words[0], overrides))


def run(*words):
    command = [sys.executable, str(JOBS / "finetune.py"), *map(str, words)]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=600
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_the_job_fine_tunes_and_its_encoder_embeds(coloured, tmp_path, capsys, plainly):
    out = tmp_path / "out"
    words = [
        JOBS / "finetune.yaml", f"tiles={coloured / 'tiles'}", f"out={out}",
        f"cohort={coloured / 'cohort.csv'}", "target.column=label_coarse",
        "model.backbone=test_resnet", "batch_size=8", "steps=4", "workers=2",
        "validation={share: 0.34, every: 2, tiles: 40}", "run.precision=float32",
    ]  # fmt: skip
    said = run(*words)
    assert "finetune: step 4/4" in said and "val_slide_auroc" in said
    assert "held out, with patients: negative: " in said
    run_here(words)
    assert "step" not in capsys.readouterr().out
    with pytest.raises(InputError, match="begun by 2, and 1 would train another"):
        run_here([*words, "workers=1"])
    raw = {"tiles": str(coloured / "tiles"), "out": str(tmp_path / "embeddings")}
    raw |= {"encoder": {"name": "checkpoint", "path": str(out / "encoder")}}
    with plainly():
        embed.run(configs.validate(embed.EmbedConfig, raw))
    assert "0 failures" in capsys.readouterr().out
