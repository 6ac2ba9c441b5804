"""The command ``mshisto``: every job by its name.

A job is imported when it is named: help and mistakes do not wait for torch and Ray.
"""

from __future__ import annotations

import ast
import difflib
import importlib.util
import os
import sys
import typing
from collections.abc import Sequence
from contextlib import nullcontext
from importlib.metadata import version
from pathlib import Path

from mshisto_ray import config, ending, entry, new_study, provenance, shipped

_INIT = "init"
_GROUPS = {
    "a study of your own slides": (_INIT, "run"),
    "its steps": ("tile", "embed", "sweep", "predict"),
    "features and heads of other tools": ("import_h5", "export_h5", "import_head"),
    "predictions of any software": ("compare",),
    "one model, and encoders": (
        "train",
        "tile_head",
        "detect",
        "evaluate",
        "select_backbone",
        "thresholds",
        "augmentation",
        "pretrain",
        "finetune",
    ),
    "this machine, this software": ("doctor", "quickstart", "benchmark", "reproduce"),
}
_NAMES = tuple(name for group in _GROUPS.values() for name in group)
_USAGE = "usage: mshisto JOB [CONFIG.yaml] [key=value ...] [--check] [--help]"
_INIT_USAGE = "usage: mshisto init FOLDER"


def main(argv: Sequence[str] | None = None) -> None:
    """Run ``mshisto JOB [CONFIG.yaml] [key=value ...]``; exit codes: ``entry.run_job``.

    Args:
        argv: words after the command; None: those of this process.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    with ending.end_at_once() if argv is None else nullcontext():
        try:
            _dispatch(words)
            sys.stdout.flush()
        except BrokenPipeError:  # of `| head`; nothing is left to flush at exit
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(1)


def _dispatch(words: list[str]) -> None:
    if not words or words[0] in ("--help", "-h", "help"):
        print(_overview())
    elif words[0] == "--version":
        print(f"mshisto {version(provenance.PACKAGE)}")
    elif words[0] == _INIT:
        _init(words[1:])
    elif words[0] in _NAMES:
        entry.main(words[0], words[1:], f"mshisto {words[0]}")
    else:
        _refuse(_unknown(words[0]))


def _init(words: Sequence[str]) -> None:
    if "--help" in words or "-h" in words:
        print(f"{new_study.write.__doc__}\n\n{_INIT_USAGE}")
        return
    if len(words) != 1 or words[0].startswith("-") or "=" in words[0]:
        _refuse(f"init: name one folder; {_INIT_USAGE}")
    try:
        new_study.write(Path(words[0]))
    except config.InputError as error:
        _refuse(str(error))


def _overview() -> str:
    lines = ["Multi-scale computational pathology on Ray.", "", _USAGE]
    for title, names in _GROUPS.items():
        lines += ["", f"{title}:"]
        lines += [f"  {name:<11} {_headline(name)}" for name in names]
    return "\n".join(
        [
            *lines,
            "",
            "`mshisto JOB --help` lists every key; `--check` checks without working.",
            "A CONFIG.yaml that is no file here is taken from those of mshisto:",
            str(shipped.folder()),
        ]
    )


def _headline(name: str) -> str:
    """The first line of a job's help, read from its file without importing it."""
    if name == _INIT:
        return str(new_study.write.__doc__).splitlines()[0]
    found = importlib.util.find_spec(f"mshisto_ray.jobs.{name}")
    assert found and found.origin
    for node in ast.parse(Path(found.origin).read_text()).body:
        if isinstance(node, ast.FunctionDef) and node.name == "run":
            return str(ast.get_docstring(node)).splitlines()[0]
    raise AssertionError(f"{name} has no run")


def _unknown(word: str) -> str:
    close = difflib.get_close_matches(word.lower().replace("-", "_"), _NAMES, 1)
    rest = f"did you mean {close[0]}?" if close else f"have {', '.join(_NAMES)}"
    return f"no job {word!r}; {rest}"


def _refuse(text: str) -> typing.NoReturn:
    print(f"error: {text}", file=sys.stderr)
    sys.exit(2)


if __name__ == "__main__":
    main()
