"""Real jobs stopped by a signal in the middle; the same command resumes."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

JOBS = Path(__file__).parents[2] / "jobs"

pytestmark = [pytest.mark.slow, pytest.mark.ray]


@pytest.fixture(scope="module")
def cohort(tmp_path_factory, write_labelled_slides):
    return write_labelled_slides(tmp_path_factory.mktemp("stops"), 24, 1200)


def start(log, job, *words):
    with log.open("w") as output:
        return subprocess.Popen(
            [sys.executable, str(JOBS / f"{job}.py"), *words],
            stdout=output, stderr=output, env={**os.environ, "PYTHONUNBUFFERED": "1"},
            # A background process of a shell may have been started to ignore Ctrl-C.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )  # fmt: skip


def wait_until(driver, reached):
    deadline = time.monotonic() + 240
    while not reached():
        assert driver.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)


def test_tiling_that_was_stopped_resumes(cohort, tmp_path):
    out, log = tmp_path / "out", tmp_path / "log"
    words = ("tile", f"cohort={cohort}", f"out={out}", "tile_px=64")
    driver = start(log, *words)
    wait_until(driver, lambda: len(list(out.glob("shards/*.parquet"))) > 2)
    driver.send_signal(signal.SIGTERM)
    assert driver.wait(timeout=120) == 143
    assert log.read_text().splitlines()[-1] == "stopped; the same command resumes"
    assert "Traceback" not in log.read_text()
    assert not (out / "slides.parquet").exists()
    driver = start(log, *words)
    assert driver.wait(timeout=240) == 0, log.read_text()
    assert "0 of 24 slides already done" not in log.read_text()
    assert pq.read_table(out / "slides.parquet").num_rows == 24
    assert not pq.read_table(out / "failures.parquet").num_rows


def test_a_sweep_that_was_stopped_publishes_nothing(cohort, tmp_path):
    out, log, table = tmp_path / "out", tmp_path / "log", tmp_path / "bags.parquet"
    write_bags(table)
    driver = start(
        log, "sweep", f"bags={table}", f"out={out}", "epochs=5000", "select=null",
        "early_stopping=null", "split={folds: 2, validation: 0}",
        "axes={seed: [0, 1, 2]}",
    )  # fmt: skip
    wait_until(driver, lambda: "0 of 3 configs" in log.read_text())
    time.sleep(10)  # in the middle of Tune's work, or of its start
    driver.send_signal(signal.SIGINT)
    assert driver.wait(timeout=120) == 130
    assert log.read_text().splitlines()[-1] == "stopped; the same command resumes"
    assert "Traceback" not in log.read_text()
    assert not (out / "summary.md").exists() and not (out / "best").exists()


def write_bags(path):
    rng = np.random.default_rng(0)
    table = {
        "bag": [f"b{i}" for i in range(40) for _ in range(5)],
        "label": [str(i % 2) for i in range(40) for _ in range(5)],
        "features": list(rng.normal(size=(200, 6)).astype(np.float32)),
    }
    pq.write_table(pa.table(table), path)
