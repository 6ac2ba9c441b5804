"""What MLflow accepts: flat params, legal names, short values, small batches."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

# MLflow's limits: longer values are refused, or cut without a warning.
_MAX_VALUE = 6000
_MAX_KEY = 250
PARAMS_A_BATCH = 100
METRICS_A_BATCH = 1000
_NOT_ALLOWED = re.compile(r"[^\w.\- :]")


def flatten(params: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested params as ``{dotted key: text}``, in the grammar of overrides.

    A part ``pooling: {name: attention, hidden: 3}`` becomes ``pooling=attention`` and
    ``pooling.hidden=3``; lists and scalars are written as JSON, text as it is.
    """
    flat: dict[str, str] = {}
    for key, value in params.items():
        dotted = f"{prefix}{key}"
        if isinstance(value, Mapping) and value:
            inner = dict(value)
            if "name" in inner:
                flat[dotted] = str(inner.pop("name"))
            flat |= flatten(inner, f"{dotted}.")
        elif isinstance(value, str | Path):
            flat[dotted] = str(value)
        else:
            flat[dotted] = json.dumps(value, default=str)
    return flat


def batches(rows: list[Any], size: int) -> list[list[Any]]:
    """Rows in lists of at most ``size``."""
    return [rows[start : start + size] for start in range(0, len(rows), size)]


def shorten(value: str) -> str:
    """A value cut to MLflow's limit, which says that it was."""
    if len(value) <= _MAX_VALUE:
        return value
    mark = f" ... ({len(value)} characters)"
    return value[: _MAX_VALUE - len(mark)] + mark


def legal_names(values: Mapping[str, Any]) -> dict[str, Any]:
    """Replace characters that MLflow refuses in keys, such as in class names."""
    legal: dict[str, Any] = {}
    for key, value in values.items():
        name = _NOT_ALLOWED.sub("_", key)[:_MAX_KEY]
        while name in legal:
            name = f"{name[: _MAX_KEY - 1]}_"
        legal[name] = value
    return legal
