"""report.html of a job: made when what it shows has changed, never a reason to fail."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Protocol

from mshisto_ray.config import Config
from mshisto_ray.progress import say
from mshisto_ray.reporting.page.blocks import Page
from mshisto_ray.reporting.page.render import read_made_from, render
from mshisto_ray.store.manifest import write_text

_REPORT = "report.html"
# To change with the page: reports of another look are made again.
_LOOK = 2
_PICTURES = (".png", ".jpg")


def report_path(out: Path) -> Path:
    """The report of a job that writes ``out``."""
    return out / _REPORT


class Report(Protocol):
    """``files``: what ``page`` is made from or shows; some may be absent."""

    @property
    def files(self) -> Sequence[Path]: ...

    @property
    def page(self) -> Page: ...


def write_report(job: str, config: Config, out: Path, report: Report) -> list[Path]:
    """Write ``out/report.html``, unless it was made from the same inputs.

    A fault is printed, and the report of an earlier state removed: the job's results
    are there without it.

    Args:
        job: its name.
        config: of the job.
        out: its directory.
        report: makes the page.

    Returns:
        The report; nothing where it could not be made.
    """
    path = report_path(out)
    try:
        made_from = _digest(config, report.files)
        if read_made_from(path) != made_from:
            write_text(path, render(report.page, made_from))
    except Exception as error:  # of any kind: what it is about has been computed
        path.unlink(missing_ok=True)
        lines = str(error).strip().splitlines() or [""]
        say(f"{job}: no {_REPORT}: {type(error).__name__}: {lines[0]}")
        return []
    say(f"{job}: {path}")
    return [path]


def _digest(config: Config, inputs: Iterable[Path]) -> str:
    """Of content; of pictures, which are not written again, of size and time."""
    digest = hashlib.blake2b(digest_size=16)
    settings = config.model_dump_json(exclude={"runtime"})
    digest.update(f"{_LOOK} {settings}".encode())
    for path in inputs:
        digest.update(f"\n{path.name} ".encode())
        if path.suffix in _PICTURES:
            state = path.stat() if path.is_file() else None
            shown = state and (state.st_size, state.st_mtime_ns)
            digest.update(repr(shown).encode())
        elif path.is_file():
            digest.update(hashlib.blake2b(path.read_bytes()).digest())
    return digest.hexdigest()
