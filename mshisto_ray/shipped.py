"""Config files that come with the package: the commented YAMLs of ``jobs/``."""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).parent


def folder() -> Path:
    """Where they lie: inside an installed package, in ``jobs`` of a checkout."""
    inside = _PACKAGE / "configs"
    return inside if inside.is_dir() else _PACKAGE.parent / "jobs"


def find_config(path: Path) -> Path:
    """A config file as it was named: the local one, else the shipped one of that name.

    A path with a folder is taken as it is; so is a name that is neither.
    """
    shipped = folder() / path.name
    if path.name == str(path) and not path.exists() and shipped.is_file():
        return shipped
    return path
