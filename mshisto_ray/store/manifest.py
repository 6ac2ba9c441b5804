"""``manifest.json``: which recipe a stage directory was made with."""

from __future__ import annotations

import hashlib
import json
import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from mshisto_ray.config import InputError

SCHEMA_VERSION = 1
_NAME = "manifest.json"
_RECORDED = ("mshisto-ray", "numpy", "torch", "timm", "openslide-python", "ray")


@dataclass(frozen=True)
class Manifest:
    """What a stage directory says of itself."""

    stage: str
    recipe: Mapping[str, Any]
    digest: str


def recipe_digest(recipe: Mapping[str, Any]) -> str:
    """Digest of the keys that change rows; the same for the same JSON value."""
    text = json.dumps(recipe, sort_keys=True, separators=(",", ":"))
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def open_stage(
    out: Path, stage: str, recipe: Mapping[str, Any], recorded: Mapping[str, Any]
) -> Manifest:
    """Make a stage directory, or enter one that the same recipe made.

    Args:
        out: the directory.
        stage: ``tiles``, ``embeddings``, ...
        recipe: JSON values that change rows.
        recorded: what is worth knowing but changes no row (config, resources).

    Raises:
        InputError: the directory is another stage's or another recipe's (the
            differing keys are named), or holds something else.
    """
    check_stage(out, stage, recipe)
    digest = recipe_digest(recipe)
    path = out / _NAME
    if not path.exists():
        out.mkdir(parents=True, exist_ok=True)
        content = {
            "stage": stage,
            "schema_version": SCHEMA_VERSION,
            "recipe_digest": digest,
            "recipe": dict(recipe),
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "versions": versions(),
            "recorded": dict(recorded),
        }
        write_text(path, json.dumps(content, indent=2) + "\n")
    return Manifest(stage, dict(recipe), digest)


def check_stage(out: Path, stage: str, recipe: Mapping[str, Any]) -> None:
    """Refuse a directory that ``open_stage`` could not enter; nothing is written."""
    if not (out / _NAME).exists():
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise InputError(
                f"{out}: exists, and no {_NAME} says that a job made it; give an empty "
                "or a new folder as out"
            )
        return
    found = read_manifest(out, stage)
    if found.digest != recipe_digest(recipe):
        differing = "; ".join(differences(found.recipe, recipe))
        raise InputError(
            f"{out}: was made with another recipe ({differing}); give another out, or "
            "the recipe it was made with"
        )


def read_manifest(directory: Path, stage: str) -> Manifest:
    """The manifest of a finished or running stage.

    Raises:
        InputError: no such directory, no manifest, or another stage's.
    """
    path = directory / _NAME
    if not path.is_file():
        raise InputError(f"{directory}: no {_NAME}; this is not a {stage} directory")
    content = json.loads(path.read_text())
    if content["stage"] != stage:
        raise InputError(f"{directory}: holds {content['stage']}, not {stage}")
    if content["schema_version"] != SCHEMA_VERSION:
        raise InputError(
            f"{directory}: schema version {content['schema_version']}, this package "
            f"reads {SCHEMA_VERSION}; make the directory again"
        )
    return Manifest(stage, content["recipe"], content["recipe_digest"])


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """``key: old -> new`` for every leaf that differs."""
    flat_old, flat_new = _flatten(old), _flatten(new)
    keys = sorted(flat_old.keys() | flat_new.keys())
    return [
        f"{key}: {flat_old.get(key)!r} -> {flat_new.get(key)!r}"
        for key in keys
        if flat_old.get(key) != flat_new.get(key)
    ]


def _flatten(value: Any, prefix: str = "") -> dict[str, Any]:
    # JSON turns tuples into lists; compare what a file would hold.
    value = json.loads(json.dumps(value)) if not prefix else value
    if not isinstance(value, dict):
        return {prefix.rstrip("."): value}
    flat: dict[str, Any] = {}
    for key, inner in value.items():
        flat |= _flatten(inner, f"{prefix}{key}.")
    return flat


def versions() -> dict[str, str]:
    """Versions of what computes rows; recorded, never compared."""
    found = {"python": platform.python_version()}
    for name in _RECORDED:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "absent"
    return found


def write_text(path: Path, text: str) -> None:
    """Write a small file so that a reader sees the old or the new, never half."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_text(text)
    os.replace(temporary, path)
