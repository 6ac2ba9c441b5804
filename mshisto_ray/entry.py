"""Entry point of every job: parse, check, run, exit."""

from __future__ import annotations

import errno
import importlib
import importlib.util
import os
import sys
import typing
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from mshisto_ray.config import (
    Config,
    InputError,
    TooManyFailuresError,
    load,
    parse_overrides,
    to_yaml,
)
from mshisto_ray.ending import end_at_once
from mshisto_ray.help import help_text
from mshisto_ray.shipped import find_config
from mshisto_ray.signals import StopSignals

C = TypeVar("C", bound=Config)
_FULL = (errno.ENOSPC, errno.EDQUOT)


@dataclass(frozen=True)
class Job(Generic[C]):
    """A command.

    Attributes:
        config: class of its config.
        run: does the work; returns the exit code, None for 0.
        check: refuses what can be refused before work; every run begins with it.
        inspect: what ``--check`` does besides, which takes longer: it prints what it
            finds, as comments below the config's YAML, and returns the exit code.
        to_words: turns the words of the command line into the grammar of all jobs.
    """

    config: type[C]
    run: Callable[[C], int | None]
    check: Callable[[C], None] | None = None
    inspect: Callable[[C], int] | None = None
    to_words: Callable[[Sequence[str]], list[str]] = list


def main(
    name: str, argv: Sequence[str] | None = None, command: str | None = None
) -> None:
    """Run the job of a module of ``mshisto_ray.jobs``; see ``run_job``.

    Args:
        name: of the module.
        argv: words after the command; None: those of this process.
        command: what a user types before them, for the help; None: this process's.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    with end_at_once() if argv is None else nullcontext():
        run_job(lambda: _load_job(name), words, command or f"python {sys.argv[0]}")


def _load_job(name: str) -> Job:
    module = importlib.import_module(f"mshisto_ray.jobs.{name}")
    config_class, *_ = typing.get_type_hints(module.run).values()
    parts = {key: getattr(module, key, None) for key in ("check", "inspect")}
    return Job(
        config_class, module.run, **parts, to_words=getattr(module, "to_words", list)
    )


def call(name: str, path: Path | None, keys: Mapping[str, Any]) -> tuple[Config, int]:
    """Run a job from Python; returns its config and exit code.

    Args:
        name: of the module.
        path: config file, as on the command line.
        keys: dotted keys and their values.

    Raises:
        InputError: no such job, or what it refuses.
        TooManyFailuresError: more slides failed than allowed.
    """
    if not name.isidentifier() or name.startswith("_") or not _find_job(name):
        raise InputError(f"no job {name!r}: `mshisto --help` lists them")
    job = _load_job(name)
    config = load(job.config, path and find_config(path), keys)
    if job.check:
        job.check(config)
    return config, job.run(config) or 0


def _find_job(name: str) -> bool:
    return importlib.util.find_spec(f"mshisto_ray.jobs.{name}") is not None


def run_job(load_job: Callable[[], Job], words: Sequence[str], command: str) -> None:
    """Import a job, parse its words, check and run it, and exit.

    Exit codes: 0 done, 1 a defect (with traceback), 2 wrong input, 3 more slides
    failed than allowed, or the disk is full, 130 stopped by Ctrl-C, 143 by SIGTERM.

    Args:
        load_job: imports the job, for seconds, in which it may be stopped too.
        words: of the command line.
        command: what a user types before them, for the help.
    """
    stops, job = StopSignals(), None
    try:
        job = load_job()
        _run(job, job.to_words(words), command)
    except BaseException as error:
        code = stops.exit_code(error)
        if code is None:
            raise
        resumes = job and "out" in job.config.model_fields
        rest = "; the same command resumes" if resumes else ""
        print(f"stopped{rest}", file=sys.stderr, flush=True)
        sys.stdout.flush()
        os._exit(code)  # what a library would still do at exit, a signal interrupted


def _run(job: Job, words: list[str], command: str) -> None:
    if "--help" in words or "-h" in words:
        given = parse_overrides([word for word in words if "=" in word])
        print(help_text(job.config.class_for(given), job.run.__doc__ or "", command))
        sys.exit(0)
    only_check = "--check" in words
    words = [word for word in words if word != "--check"]
    try:
        is_file = bool(words) and "=" not in words[0]
        path = find_config(Path(words.pop(0))) if is_file else None
        config = load(job.config, path, parse_overrides(words))
        if job.check:
            job.check(config)
        if only_check:
            _check_store(config)
            print(to_yaml(config), end="", flush=True)
            sys.exit(job.inspect(config) if job.inspect else 0)
        code = job.run(config)
    except InputError as error:
        _stop(error, 2)
    except TooManyFailuresError as error:
        _stop(error, 3)
    except OSError as error:
        if error.errno not in _FULL:
            raise
        reason = f"{error.filename or 'writing'}: {error.strerror}"
        _stop(RuntimeError(f"{reason}; make room, and the same command resumes"), 3)
    else:
        sys.exit(code or 0)


def _check_store(config: Config) -> None:
    """Refuse an MLflow store that cannot be used; a run opens it before its work."""
    check = getattr(getattr(config, "runtime", None), "check_store", None)
    if check:
        check()


def _stop(error: Exception, code: int) -> typing.NoReturn:
    for line in str(error).splitlines():
        print(f"error: {line}", file=sys.stderr)
    sys.exit(code)
