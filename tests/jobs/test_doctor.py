import dataclasses
import os
from pathlib import Path

import pytest

from mshisto_ray import distributed
from mshisto_ray.config import validate
from mshisto_ray.distributed.probe import PACKAGES, NodeFindings, note_path, probe
from mshisto_ray.distributed.workers import Node
from mshisto_ray.jobs import doctor
from mshisto_ray.jobs.doctor import DoctorConfig, check_node
from mshisto_ray.provenance import versions

CPU_NODE = Node("id", "10.0.0.1", 8, 0)
GPU_NODE = Node("id", "10.0.0.2", 8, 2)
VERSIONS = versions(PACKAGES)
GOOD = NodeFindings("host", 8, "1", VERSIONS, "4.0.0", "", {"/tmp": 10**12}, 10**11)


def findings(node, **changes):
    return list(check_node(node, dataclasses.replace(GOOD, **changes), 20.0))


@pytest.mark.ray
def test_this_machine_passes_and_nothing_stays_behind(local_ray, tmp_path, capsys):
    out = tmp_path / "shared"
    config = validate(DoctorConfig, {"out": str(out), "min_free_gb": 0})
    assert doctor.run(config) == 0
    printed = capsys.readouterr().out
    assert "FAIL" not in printed
    assert f"reads and writes {out}" in printed
    assert printed.endswith("ready\n")
    assert list(out.iterdir()) == []


@pytest.mark.ray
def test_folder_that_cannot_be_written_fails_with_exit_code_1(
    local_ray, tmp_path, capsys
):
    (tmp_path / "file").write_text("")
    config = validate(DoctorConfig, {"out": str(tmp_path / "file" / "out")})
    assert doctor.run(config) == 1
    assert "cannot be written" in capsys.readouterr().out


def test_a_node_without_the_folder_fails(tmp_path):
    found = probe(tmp_path / "absent", "n", "id", wants_gpu=False)
    assert "FileNotFoundError" in found.shared
    note_path(tmp_path, "n", "driver").write_text("something else")
    assert probe(tmp_path, "n", "id", wants_gpu=False).shared == "another file is there"


def test_a_node_that_meets_the_driver_leaves_its_note(tmp_path):
    note_path(tmp_path, "n", "driver").write_text("n")
    found = probe(tmp_path, "n", "id", wants_gpu=False)
    assert found.shared == ""
    assert note_path(tmp_path, "n", "id").read_text() == "n"
    assert found.versions == versions(PACKAGES)
    assert found.cpus == os.cpu_count()
    assert found.disk_free[str(tmp_path)] > 0


def test_note_that_does_not_arrive_fails(tmp_path, monkeypatch):
    monkeypatch.setattr(doctor, "_SHARED_WAIT_S", 0.0)
    assert doctor._check_note(CPU_NODE, GOOD, tmp_path, "n").level == "FAIL"


@pytest.mark.parametrize(
    ("node", "changes", "level", "text"),
    [
        (
            CPU_NODE,
            {"versions": versions(PACKAGES) | {"ray": "1.0"}},
            "FAIL",
            "ray 1.0 (here",
        ),
        (CPU_NODE, {"openslide": "error: no library"}, "FAIL", "no library"),
        (CPU_NODE, {"disk_free": {"/tmp": 10**9}}, "warn", "1 GB free in /tmp"),
        (CPU_NODE, {"shared_memory": 64 * 2**20}, "warn", "/dev/shm has 0.1 GB"),
        (CPU_NODE, {"bytecode": False}, "warn", "compiles it anew"),
        (CPU_NODE, {"resampling": None}, "ok", "with the extra `fast`"),
        (CPU_NODE, {"resampling": "OSError: no"}, "warn", "in twice the time: OSError"),
        (CPU_NODE, {"gpu_device": True}, "warn", "Ray does not manage"),
        (GPU_NODE, {"cuda_error": "torch sees no GPU"}, "FAIL", "2 GPU(s) here, but"),
        (GPU_NODE, {"gpus": [("H100", True)]}, "ok", "2 x H100, bfloat16 yes"),
    ],
)
def test_what_a_node_answers_is_judged(node, changes, level, text):
    usual = {finding.text for finding in findings(CPU_NODE)}
    new = [
        finding for finding in findings(node, **changes) if finding.text not in usual
    ]
    assert [finding.level for finding in new] == [level]
    assert text in new[0].text
    assert bool(new[0].fix) == (level != "ok")


def test_all_of_a_good_node_is_ok():
    assert {finding.level for finding in findings(CPU_NODE)} == {"ok"}


@pytest.mark.parametrize(
    ("own", "mode", "token", "level", "text"),
    [
        (True, "token", False, "ok", "this process alone"),
        (True, "token", True, "warn", "auth_token exists"),
        (False, "token", True, "ok", "RAY_AUTH_MODE=token"),
        (False, "disabled", False, "ok", "RAY_AUTH_MODE=disabled"),
        (False, None, True, "warn", "auth_token exists"),
        (False, None, False, "warn", "lets anyone in"),
    ],
)
def test_tokens(monkeypatch, tmp_path, own, mode, token, level, text):
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    monkeypatch.setattr(distributed, "OWN_TOKEN", own)
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
    if mode:
        monkeypatch.setenv("RAY_AUTH_MODE", mode)
    if token:
        (tmp_path / ".ray").mkdir()
        (tmp_path / ".ray" / "auth_token").write_text("secret")
    found = doctor.check_authentication()
    assert (found.level, text in found.text) == (level, True)


def test_threads_and_tracking(monkeypatch, tmp_path):
    monkeypatch.setenv("OMP_NUM_THREADS", "16")
    assert doctor.check_omp_threads().level == "warn"
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert doctor.check_omp_threads().level == "ok"
    assert doctor.check_mlflow(None).level == "ok"
    assert doctor.check_mlflow(f"sqlite:///{tmp_path}/mlflow.db").level == "ok"
    assert doctor.check_mlflow("./mlruns").level == "FAIL"


def test_address_without_cluster_is_a_line_not_a_crash(monkeypatch, capsys):
    import ray

    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    assert doctor.run(DoctorConfig()) == 1
    assert "no Ray cluster answers there" in capsys.readouterr().out
