import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import ray

from mshisto_ray.config import InputError, validate
from mshisto_ray.distributed import session, workers
from mshisto_ray.distributed.session import connect
from mshisto_ray.distributed.workers import ActorPlan, Node, plan_actors
from mshisto_ray.runtime import Resources

GPU_NODES = [Node("a", "10.0.0.1", 8, 0), Node("b", "10.0.0.2", 64, 4)]


@pytest.fixture
def nodes(monkeypatch):
    def use(found):
        monkeypatch.setattr(workers, "cluster_nodes", lambda: found)

    return use


@pytest.mark.parametrize(
    ("resources", "use_gpu", "expected"),
    [
        ({}, False, ActorPlan(72, 1, 0)),
        ({}, True, ActorPlan(4, 8, 1)),
        ({"actors": 3}, True, ActorPlan(3, 8, 1)),
        ({"gpus": 0}, True, ActorPlan(72, 1, 0)),
        ({"gpus": 0.5, "cpus": 4}, True, ActorPlan(8, 4, 0.5)),
        ({"gpus": 2}, True, ActorPlan(2, 8, 2)),
        ({"cpus": 3}, False, ActorPlan(23, 3, 0)),
        ({"cpus": 0.1}, False, ActorPlan(720, 0.1, 0)),
    ],
)
def test_actors_fill_whole_nodes(nodes, resources, use_gpu, expected):
    nodes(GPU_NODES)
    assert plan_actors(Resources(**resources), use_gpu=use_gpu) == expected


def test_gpu_share_of_a_small_node(nodes):
    nodes([Node("a", "10.0.0.1", 6, 2)])
    assert plan_actors(Resources(), use_gpu=True) == ActorPlan(2, 3, 1)


def test_cluster_without_gpu_uses_cpus(nodes):
    nodes([Node("a", "10.0.0.1", 2, 0)])
    assert plan_actors(Resources(), use_gpu=True) == ActorPlan(2, 1, 0)


@pytest.mark.parametrize(
    "asked", [{"gpus": 8}, {"cpus": 65}, {"actors": 5, "gpus": 1}, {"actors": 73}]
)
def test_more_than_the_nodes_have_is_refused_in_one_line(nodes, asked):
    nodes(GPU_NODES)
    with pytest.raises(InputError, match="64 CPUs, 4 GPUs") as caught:
        plan_actors(Resources(**asked))
    assert "\n" not in str(caught.value)


def test_workers_share_a_gpu(nodes):
    nodes([Node("a", "10.0.0.1", 8, 1)])
    assert plan_actors(Resources(gpus=0.25), use_gpu=True) == ActorPlan(4, 2, 0.25)


@pytest.mark.parametrize(
    "bad", [{"actors": 0}, {"cpus": 0}, {"gpus": -1}, {"gpus": 1.5}]
)
def test_impossible_resources_are_refused(bad):
    with pytest.raises(InputError, match=next(iter(bad))):
        validate(Resources, bad)


def test_threads_are_whole_cores():
    assert [ActorPlan(1, c, 0).threads for c in (0.5, 1, 3.9)] == [1, 1, 3]


def test_long_temporary_folder_is_refused(monkeypatch):
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    monkeypatch.setenv("TMPDIR", "/scratch/" + "x" * 90)
    with pytest.raises(InputError, match="RAY_TMPDIR=/tmp"):
        session.check_temporary_folder()
    monkeypatch.setenv("RAY_TMPDIR", "/tmp")
    session.check_temporary_folder()


def test_object_store_is_capped():
    assert 0 < session.object_store_bytes() <= 2 * 1024**3


@pytest.mark.ray
def test_open_session_is_used_and_left_open(local_ray):
    with connect():
        assert plan_actors(Resources(cpus=0.5)) == ActorPlan(4, 0.5, 0)
    assert ray.is_initialized()
    assert len(workers.cluster_nodes()) == 1


@pytest.mark.ray
def test_workers_import_the_package(local_ray):
    @ray.remote
    def where():
        import mshisto_ray.distributed

        return mshisto_ray.distributed.__file__, os.environ.get("RAY_AUTH_MODE")

    with connect():
        found, mode = ray.get(where.remote())
    assert found == sys.modules["mshisto_ray.distributed"].__file__
    assert mode == os.environ["RAY_AUTH_MODE"]


def run(code, **env):
    clean = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**clean, **env},
        capture_output=True,
        text=True,
        timeout=300,
    )


TWO = """
import subprocess, sys
from mshisto_ray.distributed.session import connect
with connect():
    if len(sys.argv) == 1:
        subprocess.run([sys.executable, "-c", CODE, "second"], check=True)
"""

CONNECT = """
import os
from mshisto_ray.config import InputError
from mshisto_ray.distributed.session import connect
from mshisto_ray.distributed.workers import plan_actors
from mshisto_ray.runtime import Resources
try:
    with connect():
        import ray
        assert ray.get(ray.remote(lambda: 7).remote()) == 7
        print(plan_actors(Resources()).actors >= 1, os.environ["RAY_AUTH_MODE"])
    assert not ray.is_initialized()
except InputError as error:
    print("refused:", error)
"""


@pytest.mark.parametrize(
    ("address", "answer"),
    [
        ("http://127.0.0.1:8265", "is for submitting: .*`ray job submit"),
        ("ray://127.0.0.1:10001", "is for submitting: .*`ray job submit"),
        ("127.0.0.1:1", "no Ray cluster answers there .* unset RAY_ADDRESS"),
        ("head", "no Ray cluster answers there"),
    ],
)
def test_address_that_no_job_can_join_is_refused(monkeypatch, address, answer):
    monkeypatch.setenv("RAY_ADDRESS", address)
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    with pytest.raises(InputError, match=answer) as caught, connect():
        pass
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("failures", [1, 2])
def test_a_ray_that_does_not_start_is_tried_once_more(monkeypatch, failures):
    """Ray's own start is replaced: a machine too busy for it cannot be made at will."""
    starts = []

    def start(**_):
        starts.append(0)
        if len(starts) <= failures:
            raise RuntimeError("no answer of the raylet\nsee its log")

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(session, "_RETRY_AFTER_S", 0)
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", start)
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    if failures == 1:
        with connect():
            assert len(starts) == 2
        return
    said = r"twice \(RuntimeError: no answer"
    with pytest.raises(InputError, match=said) as caught, connect():
        pass
    assert "\n" not in str(caught.value) and len(starts) == 2


@pytest.mark.slow
@pytest.mark.ray
def test_local_session_is_private_quiet_and_leaves_no_token(tmp_path):
    done = run(CONNECT, HOME=str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert done.stdout == "True token\n"
    assert done.stderr == ""
    assert not (tmp_path / ".ray").exists()


@pytest.mark.slow
@pytest.mark.ray
def test_another_session_of_the_machine_delays_no_start(tmp_path):
    with tempfile.TemporaryDirectory(prefix="mshisto-", dir="/tmp") as folder:
        done = run(f"CODE = {TWO!r}\nexec(CODE)", RAY_TMPDIR=folder)
        assert done.returncode == 0, done.stderr
        logs = [log.read_text() for log in Path(folder).rglob("dashboard_agent.log")]
    assert len(logs) == 2 and not any("Failed to bind" in log for log in logs)
