"""``manifest.json``: which recipe a stage directory was made with."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import platform
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mshisto_ray import provenance
from mshisto_ray.config import InputError
from mshisto_ray.store.temporary import temporary_beside

SCHEMA_VERSION = 1
_ABSENT = object()  # a key may also be null
MANIFEST = "manifest.json"
_LOCK = ".lock"
_RECORDED = ("mshisto-ray", "numpy", "torch", "timm", "openslide-python", "ray")


@dataclass(frozen=True)
class Manifest:
    """What a stage directory records.

    ``recorded``: the config that it was begun with; a later one may differ in what
    changes no row.
    """

    stage: str
    recipe: Mapping[str, Any]
    digest: str
    recorded: Mapping[str, Any] = field(default_factory=dict)


def recipe_digest(recipe: Mapping[str, Any]) -> str:
    """Digest of the keys that change rows; independent of their order."""
    text = json.dumps(recipe, sort_keys=True, separators=(",", ":"))
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


@contextlib.contextmanager
def open_stage(
    out: Path,
    stage: str,
    recipe: Mapping[str, Any],
    recorded: Mapping[str, Any],
    brought: Collection[str] = (),
    measured: Mapping[str, Any] | None = None,
) -> Iterator[Manifest]:
    """Lock a stage directory for one job: a new one, or one made with the same recipe.

    Args:
        out: the directory.
        stage: ``tiles``, ``embeddings``, ...
        recipe: JSON values that change rows.
        recorded: JSON values to record that change no row (config, resources).
        brought: names of files that may exist before a job has made the directory.
        measured: JSON values that were found before a new directory was made.

    Raises:
        InputError: the directory is another stage's or another recipe's (the
            differing keys are named), holds other files, or is in use by another
            job.
    """
    check_stage(out, stage, recipe, brought)
    with _explained(out):
        out.mkdir(parents=True, exist_ok=True)
        (out / _LOCK).touch()
    with _locked(out):
        check_stage(out, stage, recipe, brought)  # another job may have made it now
        yield _enter(out, stage, recipe, recorded, measured or {})


@contextlib.contextmanager
def _explained(out: Path) -> Iterator[None]:
    """For a folder that is read-only, without rights, or whose path is too long."""
    try:
        yield
    except OSError as error:
        raise InputError(
            f"{out}: cannot be written to ({error.strerror}): give another out"
        ) from None


def _enter(
    out: Path,
    stage: str,
    recipe: Mapping[str, Any],
    recorded: Mapping[str, Any],
    measured: Mapping[str, Any],
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
            **measured,
        }
        write_text(path, json.dumps(content, indent=2) + "\n")
    return Manifest(stage, dict(recipe), digest, dict(recorded))


@contextlib.contextmanager
def _locked(out: Path) -> Iterator[None]:
    """Hold the directory's lock, which belongs to the open file: a kill frees it."""
    with (out / _LOCK).open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise InputError(
                f"{out}: another job is using it ({file.read().strip()}); wait until "
                "that job ends, or give another out"
            ) from None
        except OSError as error:
            raise InputError(
                f"{out}: its file system has no locks ({error.strerror}), without "
                "which two jobs would mix their results: mount it with locks (NFS: "
                "version 4), or give an out elsewhere"
            ) from None
        file.truncate(0)
        file.write(f"process {os.getpid()} on {platform.node()}\n")
        file.flush()
        yield


def check_stage(
    out: Path, stage: str, recipe: Mapping[str, Any], brought: Collection[str] = ()
) -> None:
    """Raise InputError if ``open_stage`` would refuse a directory; write nothing."""
    with _explained(out):
        is_made = (out / MANIFEST).exists()
    if not is_made:
        if out.exists() and (not out.is_dir() or _has_other_files(out, brought)):
            raise InputError(
                f"{out}: exists, but has no {MANIFEST}, so no job made it; give an "
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


def _has_other_files(out: Path, brought: Collection[str]) -> bool:
    return any(path.name not in (_LOCK, *brought) for path in out.iterdir())


def read_manifest(directory: Path, stage: str) -> Manifest:
    """The manifest of a finished or running stage.

    Raises:
        InputError: no such directory, no manifest, or another stage's.
    """
    path = directory / MANIFEST
    if not path.is_file():
        raise InputError(f"{directory}: no {MANIFEST}; this is no {stage} directory")
    try:
        content = json.loads(path.read_text())
        found = content["stage"], content["schema_version"], content["recipe"]
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{path}: damaged, or written by other software ({type(error).__name__}: "
            f"{error}): copy it again, or make the directory anew"
        ) from None
    if found[0] != stage:
        raise InputError(f"{directory}: holds {content['stage']}, not {stage}")
    if found[1] != SCHEMA_VERSION:
        raise InputError(
            f"{directory}: schema version {content['schema_version']}, this package "
            f"reads {SCHEMA_VERSION}; make the directory again"
        )
    return Manifest(
        stage, content["recipe"], content["recipe_digest"], content["recorded"]
    )


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """``key: old -> new`` for every leaf that differs; a key may be absent."""
    flat_old, flat_new = _flatten(old), _flatten(new)
    keys = sorted(flat_old.keys() | flat_new.keys())

    def shown(flat: dict[str, Any], key: str) -> str:
        return repr(flat[key]) if key in flat else "absent"

    return [
        f"{key}: {shown(flat_old, key)} -> {shown(flat_new, key)}"
        for key in keys
        if flat_old.get(key, _ABSENT) != flat_new.get(key, _ABSENT)
    ]


def _flatten(value: Any, prefix: str = "") -> dict[str, Any]:
    # JSON turns tuples into lists: compare the values as a file would store them.
    value = json.loads(json.dumps(value)) if not prefix else value
    if not isinstance(value, dict):
        return {prefix.rstrip("."): value}
    flat: dict[str, Any] = {}
    for key, inner in value.items():
        flat |= _flatten(inner, f"{prefix}{key}.")
    return flat


def write_text(path: Path, text: str) -> None:
    """Write a small file atomically: readers see the old text or the new one."""
    temporary = temporary_beside(path)
    temporary.write_text(text)
    os.replace(temporary, path)
