"""Ctrl-C and SIGTERM: exit codes of the exceptions that they cause."""

import os
import signal
import subprocess
import sys

import pytest

from mshisto_ray.signals import StopSignals, keep_handlers

JOB = """
import os, signal, time
from mshisto_ray.config import Config, OutputPath, option
from mshisto_ray.entry import Job, run_job

class JobConfig(Config):
    out: OutputPath = option(text="directory")

def run(config):
    '''Wait.'''
    os.kill(os.getpid(), signal.{name})
    time.sleep(30)

run_job(lambda: Job(JobConfig, run), ["out=/tmp/x"], "job")
"""


@pytest.mark.parametrize(("name", "code"), [("SIGTERM", 143), ("SIGINT", 130)])
def test_a_stopped_job_ends_in_one_line(name, code):
    done = subprocess.run(
        [sys.executable, "-c", JOB.format(name=name)],
        capture_output=True, text=True, timeout=120, check=False,
        # A background process of a shell may have been started to ignore Ctrl-C.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    assert done.returncode == code
    assert (done.stdout, done.stderr) == ("", "stopped; the same command resumes\n")


def test_a_signal_is_told_from_a_defect():
    with keep_handlers():
        stops = StopSignals()
        assert stops.exit_code(ValueError()) is None
        assert stops.exit_code(SystemExit(2)) is None
        assert stops.exit_code(SystemExit(signal.SIGTERM)) == 143
        assert stops.exit_code(KeyboardInterrupt()) == 130
        with pytest.raises(KeyboardInterrupt) as raised:
            os.kill(os.getpid(), signal.SIGTERM)
        assert stops.exit_code(raised.value) == 143


def test_an_exception_that_a_signal_caused_counts_as_the_signal():
    with keep_handlers():
        stops = StopSignals()
        error = SystemError("a result with an exception set")
        error.__cause__ = KeyboardInterrupt()
        assert stops.exit_code(error) == 130


def test_handlers_of_a_library_are_replaced():
    before = signal.getsignal(signal.SIGTERM)
    with keep_handlers():
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    assert signal.getsignal(signal.SIGTERM) is before
