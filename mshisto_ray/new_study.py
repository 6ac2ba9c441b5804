"""The two files that a study of one's own slides begins with."""

from __future__ import annotations

import shlex
from pathlib import Path

from mshisto_ray import shipped
from mshisto_ray.config import InputError

_COHORT, _STUDY = "cohort.csv", "study.yaml"
# The row is refused by name until it is replaced by slides that exist.
_ROWS = "path,slide_id,patient_id,label\nslides/EXAMPLE.svs,EXAMPLE,P001,tumour\n"


def write(folder: Path) -> None:
    """Write cohort.csv and a commented study.yaml to begin with.

    Raises:
        InputError: either file is there already, or the folder cannot be written.
    """
    texts = {
        _COHORT: _ROWS,
        _STUDY: (shipped.folder() / "run.yaml").read_text(),
    }
    for name in texts:
        if (folder / name).exists():
            raise InputError(
                f"{folder / name}: exists and is kept: name another folder, or "
                "remove it"
            )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            (folder / name).write_text(text)
    except OSError as error:
        raise InputError(
            f"{folder}: cannot be written to ({error.strerror}): name another folder"
        ) from None
    print(_next_steps(folder))


def _next_steps(folder: Path) -> str:
    enter = (
        [] if folder.resolve() == Path.cwd() else [f"  cd {shlex.quote(str(folder))}"]
    )
    return "\n".join(
        [
            f"wrote {folder / _COHORT} and {folder / _STUDY}",
            f"List your slides in {_COHORT} (study.yaml explains its columns), look",
            f"through {_STUDY}, then:",
            *enter,
            f"  mshisto run {_STUDY} --check",
            f"  mshisto run {_STUDY}",
        ]
    )
