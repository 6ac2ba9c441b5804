"""Real jobs stopped by Ctrl-C and SIGTERM at three moments; then the same command."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import ray
import torch
from fixtures.chain import assert_same
from safetensors.torch import load_file

from mshisto_ray import config as configs
from mshisto_ray.contrastive.pretrain import pretrain
from mshisto_ray.jobs._sweep_config import SweepConfig
from mshisto_ray.jobs.pretrain import PretrainJobConfig
from mshisto_ray.learning.sweep import points as sweep
from mshisto_ray.learning.sweep import results as sweep_results
from mshisto_ray.mil import experiment
from mshisto_ray.tracking import open_store

JOBS = Path(__file__).parents[2] / "jobs"
STOPPED = "stopped; the same command resumes"

pytestmark = [pytest.mark.slow, pytest.mark.ray, pytest.mark.timeout(1800)]

# Files that are there in the middle of the work.
MIDDLE = {
    "tile": "shards/*.parquet", "embed": "shards/*/*.parquet",
    "predict": "shards/*.parquet", "sweep": "configs/*/metrics.json",
    "pretrain": "state.pt",
}  # fmt: skip
# Said before its last part: tables, pictures, MLflow.
LAST = re.compile(
    r"(\w+): ((\d+)/\3 (units|configs)|(\d+) of \5 \w+ already|step 30/30)"
)
STARTED = {job: f"{job}: 0 of " for job in MIDDLE} | {
    "pretrain": "pretrain: 1 worker(s)"
}


def words_of(job, chain, out):
    keys = {"out": out, "runtime.mlflow.uri": f"sqlite:///{out.parent / 'runs.db'}"}
    if job in ("tile", "predict"):
        keys["cohort"] = chain / "cohort.csv"
    if job == "tile":
        keys["tile_px"] = 64
    if job == "embed":
        keys |= {"tiles": chain / "tile", "encoder": "{name: colour_stats}"}
    if job == "predict":
        keys |= {"head": chain / "head", "embeddings": chain / "embed"}
    if job == "sweep":
        keys |= {
            "bags": out.parent / "bags.parquet", "axes": "{seed: [0, 1, 2]}",
            "split": "{folds: 3}", "epochs": 60, "early_stopping": "null",
        }  # fmt: skip
    if job == "pretrain":
        keys |= {
            "tiles": chain / "tile", "model.backbone": "test_resnet", "steps": 30,
            "model.projection": "{hidden: [], dim: 8}", "batch_size": 16,
            "pairs": "{name: same_tile}", "run.precision": "float32",
            "validation": "{every: 3, near_um: 50, far_um: 100, pairs: 20}",
            "best": "loss",
        }  # fmt: skip
    return [f"{key}={value}" for key, value in keys.items()]


def environment(job):
    """Tiling runs in a Ray of its own, the others on a cluster: that of the tests."""
    found = {**os.environ, "PYTHONUNBUFFERED": "1"}
    if job != "tile":
        found["RAY_ADDRESS"] = ray.get_runtime_context().gcs_address
    return found


def stop(job, words, log, number, is_reached):
    """Start a job, send it a signal at a moment; its exit code."""
    with log.open("w") as output:
        driver = subprocess.Popen(
            [sys.executable, str(JOBS / f"{job}.py"), *words],
            stdout=output, stderr=output, env=environment(job),
            # A background process of a shell may have been started to ignore Ctrl-C.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )  # fmt: skip
    deadline = time.monotonic() + 400
    while not is_reached():
        assert driver.poll() is None and time.monotonic() < deadline, log.read_text()
        time.sleep(0.02)
    driver.send_signal(number)
    return driver.wait(timeout=240)


def assert_undisturbed(job, words, chain, out):
    if job not in ("sweep", "pretrain"):
        return assert_same(job, out, chain / job)
    alone = out.parent / "alone"
    if job == "pretrain":
        given = configs.parse_overrides([*words, f"out={alone}"])
        torch.set_num_threads(1)  # as many as the job's worker
        pretrain(configs.load(PretrainJobConfig, None, given), lambda line: None)
        one, two = (load_file(o / "encoder/encoder.safetensors") for o in (out, alone))
        assert one.keys() == two.keys()
        return [torch.testing.assert_close(one[n], two[n], rtol=0, atol=0) for n in one]
    config = configs.load(SweepConfig, None, configs.parse_overrides(words))
    points, _ = sweep.check(sweep.expand(config, config.axes), config.select)
    assert len(points) == 3
    for digest, point in points.items():
        data = experiment.load(point.config)
        experiment.run(point.config, *data, alone / digest)
        one, two = (
            pq.read_table(folder / "predictions.parquet")
            for folder in (alone / digest, sweep_results.folder(out, digest))
        )
        assert one.equals(two)


@pytest.mark.parametrize("job", MIDDLE)
def test_a_job_stopped_at_three_moments_gives_what_it_gives_undisturbed(
    local_ray, chain, tmp_path, job
):
    if job == "sweep":
        write_bags(tmp_path / "bags.parquet")
    out, words = tmp_path / "out", words_of(job, chain, tmp_path / "out")
    log = tmp_path / "log"
    moments = {
        "starting": lambda: STARTED[job] in log.read_text(),
        "middle": lambda: any(out.glob(MIDDLE[job])),
        "finishing": lambda: LAST.search(log.read_text()),
    }
    # Ctrl-C in the middle of Ray Tune and Ray Train, which have handlers of their own.
    numbers = [signal.SIGINT, signal.SIGTERM] * 2
    numbers = numbers[job in ("sweep", "pretrain") :]
    for (moment, is_reached), number in zip(moments.items(), numbers, strict=False):
        code = stop(job, words, log, number, is_reached)
        said = log.read_text()
        assert (moment, code) == (moment, 128 + number), said
        assert said.splitlines()[-1] == STOPPED and said.count(STOPPED) == 1
        assert "Traceback" not in said and "*** " not in said, said
        # A worker ends with the driver, also while it saves; the next save replaces it.
        assert {path.name for path in out.rglob("*.tmp")} <= {"state.tmp"}
        if job == "sweep" and moment != "finishing":  # no choice of half the configs
            assert not (out / "summary.md").exists() and not (out / "best").exists()
    done = subprocess.run(
        [sys.executable, str(JOBS / f"{job}.py"), *words],
        capture_output=True, text=True, timeout=600, check=False,
        env=environment(job),
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert not list(out.rglob("*.tmp"))
    assert_undisturbed(job, words, chain, out)
    store = open_store(f"sqlite:///{tmp_path / 'runs.db'}", out, "mshisto_ray")
    runs = store.client.search_runs([store.experiment_id])
    statuses = [run.info.status for run in runs]
    assert statuses.count("FINISHED") == (4 if job == "sweep" else 1)
    assert set(statuses) <= {"FINISHED", "KILLED"}


def write_bags(path):
    rng = np.random.default_rng(0)
    table = {
        "bag": [f"b{i}" for i in range(40) for _ in range(5)],
        "label": [str(i % 2) for i in range(40) for _ in range(5)],
        "features": list(rng.normal(size=(200, 6)).astype(np.float32)),
    }
    pq.write_table(pa.table(table), path)
