"""Pretraining by real workers under Ray Train; some of them are killed."""

import re
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import torch
from fixtures.killing import end_driver
from PIL import Image
from safetensors.torch import load_file

from mshisto_ray import config as configs
from mshisto_ray.config import InputError
from mshisto_ray.jobs import embed, pretrain
from mshisto_ray.phantom.config import PhantomConfig
from mshisto_ray.phantom.write import write_cohort
from mshisto_ray.tiling.recipe import TilingRecipe
from mshisto_ray.tracking import open_store
from mshisto_ray.training.curve import read_curve

JOBS = Path(__file__).parents[2] / "jobs"

pytestmark = [pytest.mark.slow, pytest.mark.ray, pytest.mark.timeout(1800)]

STEPS, EVERY = 24, 4


def command(job, *words):
    return [sys.executable, str(JOBS / f"{job}.py"), *words]


def run(job, *words):
    done = subprocess.run(
        command(job, *words), capture_output=True, text=True, check=False, timeout=900
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def run_here(tiles, out, **changes):
    """The job in this process, for what needs no worker."""
    overrides = configs.parse_overrides(words(tiles, out, **changes))
    pretrain.run(configs.load(pretrain.PretrainJobConfig, None, overrides))


@pytest.fixture(scope="module")
def tiles(tmp_path_factory, make_tiles):
    folder = tmp_path_factory.mktemp("pretrain")
    config = PhantomConfig(num_patients=6, slides_per_patient=1, size=2048)
    cohort = write_cohort(config, folder)
    return make_tiles(cohort, TilingRecipe(tile_px=64), folder / "tiles")


def words(tiles, out, **changes):
    keys = {
        "tiles": tiles,
        "out": out,
        "model.backbone": "resnet10t",
        "model.projection": "{hidden: [], dim: 16}",
        "run.precision": "float32",
        "pairs": "{name: multi_scale, same_slide: by_distance, near_um: 100, "
        "far_um: 400, places_per_slide: 1, slides_per_batch: 2}",
        "batch_size": 32,
        "steps": STEPS,
        "validation": f"{{every: {EVERY}, near_um: 100, far_um: 400, pairs: 40}}",
        "blocks": "{tiles: 600, slides: 4, window_um: 300, reuse: 1}",
        "workers": 2,
        **changes,
    }
    return [f"{key}={value}" for key, value in keys.items()]


@pytest.fixture(scope="module")
def uninterrupted(tiles):
    out = tiles.parent / "uninterrupted"
    return out, run("pretrain", *words(tiles, out, onnx=True))


def weights(out):
    return load_file(out / "encoder" / "encoder.safetensors")


def assert_same_weights(first, second):
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


def steps_done(out):
    path = out / "state.pt"
    return torch.load(path, weights_only=True)["step"] if path.exists() else 0


def wait_for_steps(process, out, num):
    while steps_done(out) < num:
        assert process.poll() is None, process.communicate()
        time.sleep(0.2)


def test_a_run_prints_progress_and_another_does_no_work(tiles, uninterrupted, capsys):
    out, said = uninterrupted
    assert f"pretrain: step {STEPS}/{STEPS}" in said and "val_recall_at_10" in said
    run_here(tiles, out)
    again = capsys.readouterr().out
    assert "step" not in again and str(out / "encoder") in again


def test_the_output_is_whole(uninterrupted):
    out, said = uninterrupted
    assert "pairs as they are trained on" in said
    with Image.open(out / "pairs.png") as page:
        assert page.height > 8 * 144
    names = {path.name for path in (out / "encoder").iterdir()}
    assert names == {
        "encoder.json", "encoder.safetensors", "encoder.onnx", "README.md",
        "projection.safetensors", "labels.json",
    }  # fmt: skip
    curve = read_curve(out / "metrics.jsonl")
    assert [record["step"] for record in curve] == list(range(0, STEPS + 1, EVERY))
    store = open_store(None, out, "mshisto_ray")
    client = store.client
    (logged,) = client.search_runs([store.experiment_id])
    history = client.get_metric_history(logged.info.run_id, "loss")
    assert [point.step for point in history] == list(range(EVERY, STEPS + 1, EVERY))
    artifacts = {a.path for a in client.list_artifacts(logged.info.run_id)}
    assert artifacts == {"metrics.jsonl", "pairs.png", "encoder"}


def test_a_killed_worker_changes_no_weight(tiles, uninterrupted):
    out = tiles.parent / "worker"
    process = subprocess.Popen(command("pretrain", *words(tiles, out)))
    wait_for_steps(process, out, 2 * EVERY)
    children = psutil.Process(process.pid).children(recursive=True)
    workers = [c for c in children if "RayTrainWorker" in " ".join(c.cmdline())]
    assert len(workers) == 2
    workers[1].kill()
    assert process.wait(timeout=900) == 0
    assert_same_weights(weights(out), weights(uninterrupted[0]))


def test_a_killed_driver_changes_no_weight(tiles, uninterrupted):
    out = tiles.parent / "driver"
    process = subprocess.Popen(command("pretrain", *words(tiles, out)))
    wait_for_steps(process, out, 2 * EVERY)
    end_driver(process)
    done = steps_done(out)
    assert 2 * EVERY <= done < STEPS
    assert f"resuming after step {done}" in run("pretrain", *words(tiles, out))
    assert_same_weights(weights(out), weights(uninterrupted[0]))


def test_the_encoder_embeds(tiles, uninterrupted, plain, capsys):
    encoder = {"name": "checkpoint", "path": str(uninterrupted[0] / "encoder")}
    raw = {"tiles": str(tiles), "out": str(tiles.parent / "embeddings")}
    embed.run(configs.validate(embed.EmbedConfig, raw | {"encoder": encoder}))
    assert "0 failures" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"runtime.gpus": 1},
            "workers, runtime.cpus, runtime.gpus: 2 worker(s) with 1 CPUs and 1 GPUs",
        ),
        ({"batch_size": 34}, "take a multiple of 4"),
        (
            {"verify": 0.05, "pairs": "{name: spatial, near_um: 100, far_um: 400}"},
            "set workers=1, or verify=null",
        ),
        ({"verify": 0.05, "workers": 1}, "only spatial pairs have labels to verify"),
        ({"model.norm": "sync"}, "set model.norm=frozen with trained weights"),
    ],
)
def test_what_cannot_be_done_is_refused(local_ray, tiles, tmp_path, changes, said):
    with pytest.raises(InputError, match=re.escape(said)):
        run_here(tiles, tmp_path / "out", **changes)


def test_batch_statistics_tie_a_directory_to_its_workers(tiles, uninterrupted):
    said = "was begun by 2, and 1 would train another network.* Give workers=2, or"
    with pytest.raises(InputError, match=said):
        run_here(tiles, uninterrupted[0], workers=1)
