"""Files that start the software on clusters, as far as that goes on one machine."""

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "deploy"
# Runs the command here, as the only node of a Slurm job.
SRUN = """#!/usr/bin/env bash
while [[ "$1" == --* ]]; do shift; done
SLURM_NODEID=0 exec "$@"
"""
JOB = """
import os, ray, sys
from mshisto_ray.distributed.session import connect
with connect():
    print("cpus", ray.cluster_resources()["CPU"], os.environ["RAY_AUTH_MODE"])
sys.exit(7)
"""


def test_every_group_of_pods_has_the_image_and_the_shared_folder():
    job = yaml.safe_load((DEPLOY / "kuberay.yaml").read_text())
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    cluster = job["spec"]["rayClusterSpec"]
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    assert [group.get("groupName") for group in groups] == [None, "cpu", "gpu"]
    pods = [group["template"]["spec"] for group in groups]
    for pod in pods:
        (container,) = pod["containers"]
        assert container["image"] == pods[0]["containers"][0]["image"]
        mounted = {mount["name"] for mount in container["volumeMounts"]}
        assert mounted == {volume["name"] for volume in pod["volumes"]}
        wanted = container["resources"]
        assert wanted["requests"] == wanted["limits"]
    assert "nvidia.com/gpu" in pods[2]["containers"][0]["resources"]["limits"]
    assert cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    assert cluster["authOptions"] == {"mode": "token"}


def test_the_image_copies_what_the_package_is_built_from():
    text = (DEPLOY / "Dockerfile").read_text()
    for line in re.findall(r"^COPY (.+)$", text, re.M):
        for name in line.split()[:-1]:
            assert (ROOT / name).exists(), name
    assert "pyproject.toml" in text and "COPY jobs" in text  # configs of the wheel


def start(tmp_path, *command, ray="/tmp"):
    (tmp_path / "bin").mkdir()
    for name, text in {"srun": SRUN}.items():
        (tmp_path / "bin" / name).write_text(text)
        (tmp_path / "bin" / name).chmod(0o755)
    places = (tmp_path / "bin", Path(sys.executable).parent, os.environ["PATH"])
    slurm = {"SLURM_JOB_ID": str(os.getpid()), "SLURM_CPUS_PER_TASK": "2"}
    return subprocess.run(
        [DEPLOY / "slurm.sh", *command],
        env=os.environ | slurm | {
            "PATH": os.pathsep.join(map(str, places)), "SLURM_JOB_NUM_NODES": "1",
            "RAY_TMPDIR": ray,
        },
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip


def test_a_slurm_job_without_a_command_says_how_it_is_given(tmp_path):
    done = start(tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert "deploy/slurm.sh COMMAND" in done.stderr


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.xdist_group("ray_start")
def test_a_slurm_job_runs_its_command_on_its_own_ray(tmp_path):
    # Not under pytest's own folder: Ray's socket names have to stay short.
    with tempfile.TemporaryDirectory(prefix="mshisto-", dir="/tmp") as ray:
        done = start(tmp_path, sys.executable, "-c", JOB, ray=ray)
    assert done.returncode == 7, done.stdout + done.stderr
    assert "cpus 2.0 token" in done.stdout
    left = subprocess.run(
        ["pgrep", "-f", ray], capture_output=True, text=True, check=False,
    ).stdout  # fmt: skip
    assert not left.split()
