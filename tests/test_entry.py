"""How a job begins and ends, whatever it does."""

import errno
import signal
import subprocess
import sys

import pytest

from mshisto_ray.config import Config
from mshisto_ray.entry import Job, run_job
from mshisto_ray.runtime import Runtime
from mshisto_ray.signals import keep_handlers

STOPPED_IN_IMPORT = """
import os, signal, time
from mshisto_ray.entry import run_job

def load():
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(30)

run_job(load, [], "job")
"""


def test_a_job_that_is_stopped_while_it_is_imported_ends_in_one_line():
    done = subprocess.run(
        [sys.executable, "-c", STOPPED_IN_IMPORT],
        capture_output=True, text=True, timeout=120, check=False,
        # A background process of a shell may have been started to ignore Ctrl-C.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "stopped\n")


def test_check_refuses_an_mlflow_store_that_cannot_be_used(capsys):
    class Keys(Config):
        runtime: Runtime = Runtime()

    job = Job(Keys, lambda config: 0)
    with pytest.raises(SystemExit) as stopped:
        run_job(lambda: job, ["runtime.mlflow.uri=mlruns", "--check"], "job")
    said = capsys.readouterr()
    assert stopped.value.code == 2 and not said.out
    assert said.err.startswith("error: mlflow store 'mlruns': MLflow no longer")


def test_a_full_disk_ends_a_job_in_one_line(capsys):
    class FullConfig(Config):
        """A job."""

    def run(given):
        """Fill the disk."""
        raise OSError(errno.ENOSPC, "No space left on device", "/out/slides.parquet")

    with keep_handlers(), pytest.raises(SystemExit) as ended:
        run_job(lambda: Job(FullConfig, run), [], "job")
    assert ended.value.code == 3
    assert capsys.readouterr().err == (
        "error: /out/slides.parquet: No space left on device; make room, and the same "
        "command resumes\n"
    )


@pytest.mark.parametrize("code", [0, 2])
def test_check_inspects_below_the_config_and_ends_with_its_code(code, capsys):
    class RateConfig(Config):
        lr: float = 1e-3

    def inspect(config):
        print(f"# lr is {config.lr:g}")
        return code

    def run(config):
        raise AssertionError("--check does not run the job")

    job = Job(RateConfig, run, None, inspect)
    with keep_handlers(), pytest.raises(SystemExit) as stopped:
        run_job(lambda: job, ["--check"], "job")
    assert stopped.value.code == code
    assert capsys.readouterr().out == "lr: 0.001\n# lr is 0.001\n"
