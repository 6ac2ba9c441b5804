"""Units whose process hung, ended or was stopped: none is blamed for what it is not."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from fixtures.chain import (
    CALLED,
    JOBS,
    assert_mended,
    break_first,
    failures,
    run,
)

from mshisto_ray.config import TooManyFailuresError
from mshisto_ray.prediction import unit as predict_unit
from mshisto_ray.store.attempts import Attempts


def run_to_failure(chain, job, out):
    """Run a job of which a unit fails; export has no shard to record that in."""
    if job == "export":
        with pytest.raises(TooManyFailuresError, match="the same command resumes"):
            run(chain, job, out)
    else:
        run(chain, job, out)


@pytest.mark.parametrize("job", JOBS)
def test_a_unit_whose_workers_hung_is_retried_and_not_called_damaged(
    plain, chain, job, tmp_path, monkeypatch
):
    begin, hangs = Attempts.begin, [1] * (4 if job == "predict" else 2)

    def begin_after_hangs(attempts):
        while hangs:
            begin(attempts)
            attempts.record_hang()  # as the watchdog does that ends the process
            hangs.pop()
        return begin(attempts)

    with monkeypatch.context() as patch:
        patch.setattr(Attempts, "begin", begin_after_hangs)
        run_to_failure(chain, job, tmp_path)
    assert failures(tmp_path) == [(job, "hung", "Hung")]
    assert_mended(chain, job, tmp_path)


@pytest.mark.parametrize("job", JOBS)
def test_a_unit_that_ends_its_workers_is_named_and_may_be_retried(
    plain, chain, job, tmp_path, monkeypatch
):
    """As by os._exit, a segfault, or the kernel for lack of memory: no more is left
    of an attempt than its marker."""
    begin, ends = Attempts.begin, [1] * 8

    def begin_after_ends(attempts):
        while ends:
            begin(attempts)
            ends.pop()
        return begin(attempts)

    with monkeypatch.context() as patch:
        patch.setattr(Attempts, "begin", begin_after_ends)
        run_to_failure(chain, job, tmp_path)
    assert failures(tmp_path) == [(job, "crash", "Crash")]
    assert_mended(chain, job, tmp_path)


# What a worker of each job waits for, where its storage does not answer.
HANGS = """
import os, sys, time
from pathlib import Path
from mshisto_ray.slides import _open
_open.Watchdog.__init__.__defaults__ = (0.5,)
from mshisto_ray.exchange import export_unit, import_unit, h5_import
from mshisto_ray.prediction import unit as predict_unit
from mshisto_ray.tiling import unit as tile_unit
from mshisto_ray.embedding import unit as embed_unit
job, out = sys.argv[1], Path(sys.argv[2])
called = {
    "export": (export_unit, "write_h5"), "import": (h5_import, "read_h5"),
    "predict": (predict_unit, "read_slide"), "tile": (tile_unit, "write_shard"),
    "embed": (embed_unit, "slide_fingerprint"),
}[job]
setattr(*called, lambda *args, **keys: time.sleep(60))
from fixtures.chain import run
from fixtures.plain import _without_ray
with _without_ray():
    run(Path(sys.argv[3]), job, out)
"""


@pytest.mark.slow
@pytest.mark.parametrize("job", JOBS)
def test_a_storage_that_does_not_answer_ends_the_worker_as_hung(
    plain, chain, job, tmp_path
):
    """The process of the unit itself, by its watchdog; a real one of each job."""
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, "-c", HANGS, job, str(tmp_path), str(chain)],
            capture_output=True, text=True, timeout=300, check=False,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
        )  # fmt: skip
        assert done.returncode == 86, done.stderr
        (marker,) = (tmp_path / "attempts").iterdir()
        assert marker.name.endswith("-hung")
    assert_mended(chain, job, tmp_path)


@pytest.mark.parametrize("job", JOBS)
def test_five_stops_blame_no_slide(plain, chain, job, tmp_path, monkeypatch):
    """Ctrl-C always at the same unit, then the same command to the end."""
    module, called, _ = CALLED[job]
    for _ in range(5):
        with monkeypatch.context() as patch:
            break_first(patch, module, called, KeyboardInterrupt(), times=1)
            with pytest.raises(KeyboardInterrupt):
                run(chain, job, tmp_path)
        assert not list(tmp_path.glob("shards/**/*.parquet"))
    assert_mended(chain, job, tmp_path)


def test_a_heat_map_that_hung_is_drawn_by_the_next_run(chain, tmp_path):
    """And is not called a crash; the prediction is kept."""
    work = predict_unit.PredictWork(
        chain / "head", (chain / "embed",), chain / "tile", tmp_path
    )
    bag = predict_unit.Bag("s1", "s1", ["s1"])
    for _ in range(2):
        attempt = Attempts(tmp_path, "s1")
        attempt.begin()
        attempt.record_hang()
    row = predict_unit.make_predictor(work, 1)(bag.as_unit())
    assert row["reasons"] == [["hung", "NoHeatMap"]] and row["tiles"] > 0
    assert predict_unit.make_predictor(work, 1)(bag.as_unit())["reasons"] == []
