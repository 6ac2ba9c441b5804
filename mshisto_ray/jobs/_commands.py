"""The command that gives a job its config, for the record."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, TypeAdapter

from mshisto_ray.config import Config
from mshisto_ray.help import model_of


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
    given = {key: value for key, value in settings.items() if key != "runtime"}
    words = [
        f"{key}={shlex.quote(_text(_relative(value, folder)))}"
        for key, value in _differing(kind, given)
    ]
    return " ".join(["mshisto", job, *words])


def _differing(
    kind: type[BaseModel], settings: Mapping[str, Any], prefix: str = ""
) -> Iterator[tuple[str, Any]]:
    """Keys and values of a config that differ from its defaults."""
    defaults = _defaults(kind)
    for key, value in settings.items():
        if key in defaults and value == defaults[key]:
            continue
        inner = model_of(kind.model_fields[key].annotation)
        # A part is given as a whole: its parameters belong to its name.
        if inner and issubclass(inner, Config) and value and defaults.get(key):
            yield from _differing(inner, value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _defaults(kind: type[BaseModel]) -> dict[str, Any]:
    """Defaults by key, as JSON values; those of parts with their parameters."""
    found = {}
    for name, field in kind.model_fields.items():
        if field.is_required():
            continue
        adapter = TypeAdapter(field.rebuild_annotation())
        value = adapter.validate_python(field.get_default(call_default_factory=True))
        found[name] = adapter.dump_python(value, mode="json")
    return found


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
