"""``manifest.json``: which recipe a stage directory was made with."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import platform
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mshisto_ray import provenance
from mshisto_ray.config import InputError

SCHEMA_VERSION = 1
_ABSENT = object()  # a key may also be null
MANIFEST = "manifest.json"
_LOCK = ".lock"
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


@contextlib.contextmanager
def open_stage(
    out: Path,
    stage: str,
    recipe: Mapping[str, Any],
    recorded: Mapping[str, Any],
    brought: Collection[str] = (),
) -> Iterator[Manifest]:
    """Make a stage directory, or enter one that the same recipe made; be alone in it.

    Args:
        out: the directory.
        stage: ``tiles``, ``embeddings``, ...
        recipe: JSON values that change rows.
        recorded: what is worth knowing but changes no row (config, resources).
        brought: names that may lie there before a job has made the directory.

    Raises:
        InputError: the directory is another stage's or another recipe's (the
            differing keys are named), holds something else, or another job is at
            work in it.
    """
    check_stage(out, stage, recipe, brought)
    out.mkdir(parents=True, exist_ok=True)
    with _alone(out):
        check_stage(out, stage, recipe, brought)  # another job may have come first
        yield _enter(out, stage, recipe, recorded)


def _enter(
    out: Path, stage: str, recipe: Mapping[str, Any], recorded: Mapping[str, Any]
) -> Manifest:
    digest = recipe_digest(recipe)
    path = out / MANIFEST
    if not path.exists():
        content = {
            "stage": stage,
            "schema_version": SCHEMA_VERSION,
            "recipe_digest": digest,
            "recipe": dict(recipe),
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "versions": provenance.versions(_RECORDED),
            "commit": provenance.commit(),
            "recorded": dict(recorded),
        }
        write_text(path, json.dumps(content, indent=2) + "\n")
    return Manifest(stage, dict(recipe), digest)


@contextlib.contextmanager
def _alone(out: Path) -> Iterator[None]:
    """One job at a time; the lock is the open file's, so a killed job holds none."""
    with (out / _LOCK).open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise InputError(
                f"{out}: another job is at work in it ({file.read().strip()}); wait "
                "until it ends, or give another out"
            ) from None
        file.truncate(0)
        file.write(f"process {os.getpid()} on {platform.node()}\n")
        file.flush()
        yield


def check_stage(
    out: Path, stage: str, recipe: Mapping[str, Any], brought: Collection[str] = ()
) -> None:
    """Refuse a directory that ``open_stage`` could not enter; nothing is written."""
    if not (out / MANIFEST).exists():
        if out.exists() and (not out.is_dir() or _holds_others(out, brought)):
            raise InputError(
                f"{out}: exists, and no {MANIFEST} says that a job made it; give an "
                "empty or a new folder as out"
            )
        return
    found = read_manifest(out, stage)
    if found.digest != recipe_digest(recipe):
        differing = "; ".join(differences(found.recipe, recipe))
        raise InputError(
            f"{out}: was made with another recipe ({differing}); give another out, or "
            "the recipe it was made with"
        )


def _holds_others(out: Path, brought: Collection[str]) -> bool:
    return any(path.name not in (_LOCK, *brought) for path in out.iterdir())


def read_manifest(directory: Path, stage: str) -> Manifest:
    """The manifest of a finished or running stage.

    Raises:
        InputError: no such directory, no manifest, or another stage's.
    """
    path = directory / MANIFEST
    if not path.is_file():
        raise InputError(f"{directory}: no {MANIFEST}; this is not a {stage} directory")
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
    """``key: old -> new`` for every leaf that differs; a key may be absent."""
    flat_old, flat_new = _flatten(old), _flatten(new)
    keys = sorted(flat_old.keys() | flat_new.keys())

    def told(flat: dict[str, Any], key: str) -> str:
        return repr(flat[key]) if key in flat else "absent"

    return [
        f"{key}: {told(flat_old, key)} -> {told(flat_new, key)}"
        for key in keys
        if flat_old.get(key, _ABSENT) != flat_new.get(key, _ABSENT)
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


def write_text(path: Path, text: str) -> None:
    """Write a small file so that a reader sees the old or the new, never half."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_text(text)
    os.replace(temporary, path)
