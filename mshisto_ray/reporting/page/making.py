"""What made a result: versions of code and packages of every step, and commands."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from mshisto_ray import provenance
from mshisto_ray.reporting.page.blocks import Code, Section, Table, Text
from mshisto_ray.store.manifest import MANIFEST

_PACKAGES = (
    "mshisto-ray", "numpy", "torch", "timm", "openslide-python", "ray", "scipy",
    "pandas", "pyarrow", "pillow", "mlflow",
)  # fmt: skip


def made_now() -> str:
    """When and by which version a page is made."""
    version = provenance.versions([provenance.PACKAGE])[provenance.PACKAGE]
    now = datetime.now(UTC).strftime("%d %B %Y")
    return f"made on {now} by mshisto_ray {version}."


def making_section(
    stages: Mapping[str, Path], commands: Sequence[str], out: Path, folder: Path
) -> Section:
    """Versions as a table with a column per stage, and the commands.

    Args:
        stages: stage directories by the name to show.
        commands: in their order.
        out: what they made.
        folder: to type them in, and that paths are relative to.
    """
    where = f"the folder that holds {os.path.relpath(out, folder)}"
    columns = {name: _begun(path) for name, path in stages.items()}
    commit = _short("commit", provenance.commit() or "")
    columns["this report"] = {"commit": commit, **provenance.versions(_PACKAGES)}
    names = list(dict.fromkeys(key for column in columns.values() for key in column))
    rows = [
        [name, *(column.get(name, "") for column in columns.values())] for name in names
    ]
    return Section(
        "making",
        "How it was made",
        [
            Text(f"Commands, in {where}; paths are relative to it."),
            Code(commands),
            Table(
                ["", *columns],
                rows,
                "Versions, as recorded when a step was begun",
                text_columns=range(len(columns) + 1),
            ),
        ],
    )


def _begun(directory: Path) -> dict[str, str]:
    """When, by which commit and with which versions a stage was begun."""
    path = directory / MANIFEST
    if not path.is_file():
        return {}
    content = json.loads(path.read_text())
    found = {"begun": content.get("created"), "commit": content.get("commit")}
    texts = {name: _short(name, str(value)) for name, value in found.items() if value}
    return texts | dict(content.get("versions", {}))


def _short(name: str, value: str) -> str:
    """A commit by its first twelve digits and whether files differ; time in minutes."""
    if name == "begun":
        return datetime.fromisoformat(value).strftime("%Y-%m-%d %H:%M %Z")
    return value[:12] + ("-dirty" if value.endswith("-dirty") else "")
