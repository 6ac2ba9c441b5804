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

class Dropped:
    def __del__(self):
        os.kill(os.getpid(), signal.{name})
        time.sleep(0.01)

def swallow():
    try:
        os.kill(os.getpid(), signal.{name})
        time.sleep(30)
    except BaseException:
        pass

def run(config):
    '''Wait.'''
    {stop}
    time.sleep(30)

run_job(lambda: Job(JobConfig, run), ["out=/tmp/x"], "job")
"""


@pytest.fixture(autouse=True)
def own_hook(monkeypatch):
    monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)


@pytest.mark.parametrize(
    "stop",
    [
        pytest.param("os.kill(os.getpid(), signal.{name})", id="work"),
        pytest.param("Dropped()", id="destructor"),  # Python drops its exception
        pytest.param("swallow()", id="library"),
    ],
)
@pytest.mark.parametrize(("name", "code"), [("SIGTERM", 143), ("SIGINT", 130)])
def test_a_stopped_job_ends_in_one_line(name, code, stop):
    job = JOB.format(name=name, stop=stop.format(name=name))
    done = subprocess.run(
        [sys.executable, "-c", job],
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


def test_other_exceptions_that_python_drops_are_reported_as_before(monkeypatch):
    seen = []
    monkeypatch.setattr(
        sys, "unraisablehook", lambda found: seen.append(found.exc_type)
    )

    class Broken:
        def __del__(self):
            raise ValueError

    with keep_handlers():
        StopSignals()
        StopSignals()  # once in a process, however many jobs it runs
        Broken()
    assert seen == [ValueError]


def test_handlers_of_a_library_are_replaced():
    before = signal.getsignal(signal.SIGTERM)
    with keep_handlers():
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    assert signal.getsignal(signal.SIGTERM) is before
