"""Which store a job writes to, and how it is opened."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient

from mshisto_ray import tracking
from mshisto_ray.config import InputError
from mshisto_ray.tracking import (
    ResultRun,
    open_store,
)


def read(store, run_id):
    return MlflowClient(tracking_uri=store.uri).get_run(run_id)


def test_reopening_finds_the_same_experiment(store):
    out = Path(store.uri.removeprefix("sqlite:///")).parent
    again = open_store(store.uri, out / "elsewhere", "tests")
    assert again.experiment_id == store.experiment_id
    assert not (out / "elsewhere").exists()
    assert open_store(None, out, "others").experiment_id != store.experiment_id


def test_code_version_is_tagged(store):
    run = read(store, store.log_run("v", {}, {}))
    assert run.data.tags["mshisto_ray.version"]
    if (Path(__file__).parents[1] / ".git").exists():
        commit = run.data.tags["mlflow.source.git.commit"]
        assert len(commit.removesuffix("-dirty")) == 40


@pytest.mark.parametrize(
    ("uri", "fix"),
    [
        ("sqlite:///mlflow.db", "sqlite:////absolute"),
        ("./mlruns", "sqlite:////absolute"),
        ("file:///tmp/mlruns", "sqlite:////absolute"),
        ("http://127.0.0.1:1", "start it"),
    ],
)
def test_stores_that_cannot_be_used_are_refused(uri, fix, tmp_path):
    with pytest.raises(InputError, match=fix) as caught:
        open_store(uri, tmp_path, "tests")
    assert "\n" not in str(caught.value)


def test_deleted_experiment_is_refused(store, tmp_path):
    client = MlflowClient(tracking_uri=store.uri)
    client.delete_experiment(open_store(store.uri, tmp_path, "deleted").experiment_id)
    with pytest.raises(InputError, match="restore -x"):
        open_store(store.uri, tmp_path, "deleted")


def test_importing_the_module_leaves_mlflow_alone():
    code = "import sys, mshisto_ray.tracking; sys.exit('mlflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_jobs_of_a_project_share_the_database_beside_their_folders(tmp_path):
    wanted = f"sqlite:///{tmp_path / 'mlflow.db'}"
    assert tracking.default_uri(tmp_path / "tiles") == wanted
    assert tracking.default_uri(tmp_path / "sweep") == wanted
    assert tracking.default_uri(Path("/results")).endswith("/mlflow.db")


def test_a_database_inside_a_folder_is_used_further(tmp_path):
    inside = tmp_path / "tiles" / "mlflow.db"
    inside.parent.mkdir()
    inside.touch()
    assert tracking.default_uri(tmp_path / "tiles") == f"sqlite:///{inside}"


def log_result(out):
    uri = tracking.default_uri(out)
    run = ResultRun(lambda: open_store(uri, out, "tests"), uri, "tests", out)
    run.log("r", "once", {}, {})


def test_a_moved_database_finds_its_artifacts_and_its_results(tmp_path):
    note = tmp_path / "note.txt"
    note.write_text("kept")
    old, new = tmp_path / "old place", tmp_path / "new's place"
    run_id = open_store(None, old / "tiles", "tests").log_run(
        "tile", {}, {}, artifacts=[note]
    )
    (old / "tiles").mkdir()
    log_result(old / "tiles")
    old.rename(new)
    moved = open_store(None, new / "tiles", "tests")
    client = MlflowClient(tracking_uri=moved.uri)
    assert Path(client.download_artifacts(run_id, "note.txt")).read_text() == "kept"
    log_result(new / "tiles")
    assert len(client.search_runs([moved.experiment_id])) == 2
    later = moved.log_run("later", {}, {}, artifacts=[note])
    assert (new / "mlartifacts" / later / "artifacts" / "note.txt").is_file()
    assert not old.exists()


@pytest.mark.slow
def test_processes_may_create_one_database_together(tmp_path):
    code = (
        "import sys, pathlib\nfrom mshisto_ray.tracking import open_store\n"
        "s = open_store(sys.argv[1], pathlib.Path('/nowhere'), 'shared')\n"
        "[s.log_run(f'r{i}', {'i': i}, {'m': i}) for i in range(4)]\n"
    )
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    command = [sys.executable, "-c", code, uri]
    workers = [subprocess.Popen(command) for _ in range(4)]
    assert [worker.wait() for worker in workers] == [0] * 4
    store = open_store(uri, tmp_path, "shared")
    runs = MlflowClient(tracking_uri=uri).search_runs([store.experiment_id])
    assert len(runs) == 16


@pytest.mark.slow
def test_view_command_serves_the_experiment(store, tmp_path):
    store.log_run("seen", {"a": 1}, {"m": 0.5}, {"key": "seen"})
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = f"exec {store.view_command()} --host 127.0.0.1 --port {port} --workers 1"
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    with (tmp_path / "server.log").open("wb") as log:
        server = subprocess.Popen(
            command,
            shell=True,
            stdout=log,
            stderr=log,
            start_new_session=True,
            cwd=tmp_path,
            env={**os.environ, "PATH": path},
        )
    try:
        url = f"http://127.0.0.1:{port}"
        wait_for(f"{url}/health", server)
        with urllib.request.urlopen(
            f"{url}/api/2.0/mlflow/experiments/get-by-name?experiment_name=tests"
        ) as answer:
            experiment = json.load(answer)["experiment"]
        assert experiment["experiment_id"] == store.experiment_id
        assert_served_store_works(url, tmp_path)
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(60)


def assert_served_store_works(url, tmp_path):
    served = open_store(url, tmp_path, "tests")
    assert served.find_run("key", "seen")
    assert served.view_command().startswith(url)
    own = open_store(url, tmp_path, "through the server")
    note = tmp_path / "note.txt"
    note.write_text("hello")
    run_id = own.log_run("remote", {"b": 2}, {"m": 1.0}, {"k": "v"}, [note])
    assert own.find_run("k", "v") == run_id
    got = MlflowClient(tracking_uri=url).download_artifacts(run_id, "note.txt")
    assert Path(got).read_text() == "hello"
    assert tracking.check_uri(url) is None


def wait_for(url, server, seconds=300):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        assert server.poll() is None, "the server ended"
        try:
            urllib.request.urlopen(url, timeout=5).close()
            return
        except (urllib.error.URLError, OSError):
            time.sleep(0.5)
    raise AssertionError(f"{url} did not answer in {seconds} s")
