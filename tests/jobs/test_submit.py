"""Jobs on a running cluster, as `ray job submit` starts them."""

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from mshisto_ray.tiling.recipe import TilingRecipe

# Clusters of `ray start` share the ports of a machine: they run one after the other.
pytestmark = [pytest.mark.slow, pytest.mark.ray, pytest.mark.xdist_group("ray_start")]
ROOT = Path(__file__).parents[2]
RAY = str(Path(sys.executable).with_name("ray"))


@dataclass
class HeadNode:
    """A private cluster of this machine: where it is, and the shell to reach it."""

    dashboard: str
    address: str
    env: dict[str, str]

    def submit(self, working_dir: Path, *command: str, **env: str):
        """`ray job submit`, followed to its end."""
        words = [RAY, "job", "submit", "--address", self.dashboard]
        words += ["--working-dir", str(working_dir), "--", *command]
        return subprocess.run(
            words, env=self.env | env, capture_output=True, text=True, timeout=400
        )


@pytest.fixture(scope="module")
def head_node() -> Iterator[HeadNode]:
    """One head with 2 CPUs; every process under its folder is ended afterwards."""
    # Not under pytest's own folder: Ray's socket names have to stay short.
    folder = Path(tempfile.mkdtemp(prefix="mshisto-head-", dir="/tmp"))
    ports = free_ports(6)
    names = ("port", "dashboard-port", "dashboard-agent-listen-port")
    names += ("ray-client-server-port", "metrics-export-port", "runtime-env-agent-port")
    clean = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
    env = clean | {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "RAY_USAGE_STATS_ENABLED": "0",
        # Under `uv run` Ray would start workers by uv in the copied folder, which then
        # installs everything anew.
        "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    }
    command = [RAY, "start", "--head", "--block", f"--temp-dir={folder}"]
    command += ["--num-cpus=2", f"--object-store-memory={256 * 1024**2}"]
    command += [f"--{name}={port}" for name, port in zip(names, ports, strict=True)]
    with (folder / "start.log").open("wb") as log:
        head = subprocess.Popen(
            command, env=env, stdout=log, stderr=log, start_new_session=True
        )
    node = HeadNode(f"http://127.0.0.1:{ports[1]}", f"127.0.0.1:{ports[0]}", env)
    try:
        wait_until_ready(node, head, folder)
        yield node
    finally:
        end(head, folder)
        shutil.rmtree(folder, ignore_errors=True)


def free_ports(number):
    """Free ports of the kernel's ephemeral range, above the one Ray gives workers."""
    sockets = [socket.socket() for _ in range(number)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    assert all(port > 19999 for port in ports)
    return ports


def wait_until_ready(node, head, folder, seconds=300):
    token = {"Authorization": f"Bearer {node.env['RAY_AUTH_TOKEN']}"}
    request = urllib.request.Request(f"{node.dashboard}/api/jobs/", headers=token)
    end_at = time.monotonic() + seconds
    while time.monotonic() < end_at:
        assert head.poll() is None, (folder / "start.log").read_text()
        try:
            urllib.request.urlopen(request, timeout=10).close()
            return
        except (urllib.error.URLError, OSError):
            time.sleep(0.5)
    raise AssertionError((folder / "start.log").read_text())


def end(head, folder):
    """End the cluster's processes and no others; `ray stop` would end all clusters."""
    head.send_signal(signal.SIGTERM)
    try:
        head.wait(30)
    except subprocess.TimeoutExpired:
        head.kill()
        head.wait(30)
    for _ in range(20):
        left = processes_of(folder)
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if not left:
            return
        time.sleep(0.2)


def processes_of(folder):
    """Pids of this cluster: its folder is on their command line, or they work in it."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes()
            place = os.readlink(process / "cwd")
        except OSError:
            continue
        if os.fsencode(folder) in command or place.startswith(f"{folder}/"):
            found.append(int(process.name))
    return found


JOB = """
import sys
from mshisto_ray.distributed.session import connect
from mshisto_ray.distributed.workers import plan_actors
from mshisto_ray.runtime import Resources
import ray
with connect():
    print("plan:", plan_actors(Resources()))
    print("answer:", ray.get(ray.remote(lambda: 6 * 7).remote()))
sys.exit(int(sys.argv[1]))
"""


@pytest.mark.parametrize("code", [0, 3])
def test_job_runs_on_the_cluster_and_its_failure_is_the_command_s(
    head_node, tmp_path, code
):
    (tmp_path / "job.py").write_text(JOB)
    done = head_node.submit(tmp_path, sys.executable, "job.py", str(code))
    assert done.returncode == (1 if code else 0), done.stdout + done.stderr
    assert "plan: ActorPlan(actors=2, cpus=1.0, gpus=0.0)" in done.stdout
    assert "answer: 42" in done.stdout
    if code:
        assert f"exit code {code}" in done.stdout + done.stderr


def test_doctor_as_a_submitted_job(head_node, tmp_path):
    command = (sys.executable, "jobs/doctor.py", "min_free_gb=0")
    done = head_node.submit(ROOT, *command, f"out={tmp_path / 'results'}")
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"reads and writes {tmp_path / 'results'}" in done.stdout
    assert "RAY_AUTH_MODE=token" in done.stdout
    refused = head_node.submit(ROOT, *command, "out=results")
    assert refused.returncode == 1
    assert "give an absolute path on shared storage" in refused.stdout


def test_driver_with_another_token_is_refused_in_one_line(head_node, tmp_path):
    (tmp_path / "job.py").write_text(
        "from mshisto_ray.config import InputError\n"
        "from mshisto_ray.distributed.session import connect\n"
        "try:\n    connect().__enter__()\n"
        "except InputError as error:\n    print('refused:', error)\n"
    )
    env = head_node.env | {
        "RAY_ADDRESS": head_node.address,
        "RAY_AUTH_TOKEN": "0" * 64,
    }
    command = [sys.executable, str(tmp_path / "job.py")]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=300)
    assert done.stdout.startswith("refused: RAY_ADDRESS="), done.stderr
    assert "RAY_AUTH_MODE" in done.stdout


def test_the_path_from_slides_to_a_sweep_as_submitted_jobs(
    head_node, tmp_path, write_slide
):
    rows = ["path,label"]
    for i in range(8):
        write_slide(tmp_path / f"s{i}.tiff", i, size=(700, 700))
        rows.append(f"s{i}.tiff,{'odd' if i % 2 else 'even'}")
    cohort = tmp_path / "cohort.csv"
    cohort.write_text("\n".join(rows) + "\n")
    tiles, embeddings = tmp_path / "tiles", tmp_path / "embeddings"

    def submit(job, *words):
        return head_node.submit(ROOT, sys.executable, f"jobs/{job}.py", *words)

    done = submit("tile", f"cohort={cohort}", f"out={tiles}", "tile_px=64")
    assert done.returncode == 0, done.stdout + done.stderr
    words = [f"tiles={tiles}", "encoder={name: colour_stats}"]
    done = submit("embed", *words, f"out={embeddings}")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "embed: 8 slides, " in done.stdout
    words = [
        f"embeddings={embeddings}",
        f"cohort={cohort}",
        f"runtime.cache.dir={tmp_path / 'c'}",
    ]
    axes = "axes={pooling: [{name: embedding_mean}, {name: attention}]}"
    options = ["split.folds=2", "epochs=1", "early_stopping=null", "hidden=[4]", axes]
    done = submit("sweep", *words, *options, f"out={tmp_path / 'sweep'}")
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "sweep" / "best" / "model.json").is_file()
    assert (tmp_path / "sweep" / "summary.md").is_file()


def test_pretraining_as_a_submitted_job(head_node, tmp_path, write_slide, make_tiles):
    rows = ["path"]
    for i in range(4):
        write_slide(tmp_path / f"s{i}.tiff", i, size=(700, 700))
        rows.append(f"s{i}.tiff")
    cohort = tmp_path / "cohort.csv"
    cohort.write_text("\n".join(rows) + "\n")
    tiles = make_tiles(cohort, TilingRecipe(tile_px=32), tmp_path / "tiles")
    words = ["jobs/pretrain.yaml", f"tiles={tiles}", "model.backbone=test_resnet"]
    words += ["batch_size=16", "steps=4", "workers=2", "validation.every=2"]
    words += ["pairs.near_um=40", "pairs.far_um=100"]  # slides of .35 mm
    out = tmp_path / "pretrained"
    words += [f"out={out}"]
    done = head_node.submit(ROOT, sys.executable, "jobs/pretrain.py", *words)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "pretrain: step 4/4" in done.stdout
    assert (out / "encoder" / "encoder.json").is_file()
