"""The command that gives a job its config, for the record."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from mshisto_ray.config import Config


def command_of(
    job: str, kind: type[Config], settings: Mapping[str, Any], folder: Path
) -> str:
    """``mshisto JOB key=value ...``: the keys that differ from their defaults.

    ``runtime``, which changes no result, is left out.

    Args:
        job: its name.
        kind: class of its config.
        settings: the config as JSON values, as a manifest records it.
        folder: in which to type it: absolute paths become relative to it.
    """
    defaults = kind.model_construct().model_dump(mode="json", warnings=False)
    given = {key: value for key, value in settings.items() if key != "runtime"}
    words = [
        f"{key}={shlex.quote(_text(_relative(value, folder)))}"
        for key, value in _differing(given, defaults)
    ]
    return " ".join(["mshisto", job, *words])


def _differing(
    settings: Mapping[str, Any], defaults: Mapping[str, Any], prefix: str = ""
) -> Iterator[tuple[str, Any]]:
    for key, value in settings.items():
        default = defaults.get(key, ...)
        if value == default:
            continue
        # A part is given as a whole: its parameters belong to its name.
        is_nested = isinstance(value, Mapping) and isinstance(default, Mapping)
        if is_nested and default and "name" not in value:
            yield from _differing(value, default, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _relative(value: Any, folder: Path) -> Any:
    if isinstance(value, str) and os.path.isabs(value):
        return os.path.relpath(value, folder)
    if isinstance(value, list):
        return [_relative(item, folder) for item in value]
    if isinstance(value, Mapping):
        return {key: _relative(item, folder) for key, item in value.items()}
    return value


def _text(value: Any) -> str:
    """A value as YAML on one line; plain words without quotes."""
    if isinstance(value, Mapping) and set(value) == {"name"}:
        value = value["name"]
    if isinstance(value, str):
        try:
            if yaml.safe_load(value) == value:
                return value
        except yaml.YAMLError:
            pass
    return json.dumps(value)
