"""What is wrong with a config, in one line a problem."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from mshisto_ray.help import model_of


def message_of(item: Any) -> str:
    """What an error of pydantic says."""
    if item["type"] == "too_short":
        least = item["ctx"]["min_length"]
        return f"give at least {least}, not {item['ctx']['actual_length']}"
    return item["msg"].removeprefix("Value error, ")


def distinct_errors(error: ValidationError) -> list[Any]:
    """The errors of pydantic; of a list with wrong items not that it is too short."""
    found = error.errors()
    wrong = {item["loc"][:-1] for item in found if item["type"] != "too_short"}
    return [
        item
        for item in found
        if item["type"] != "too_short" or item["loc"] not in wrong
    ]


def explain(config_class: type[BaseModel], item: Any) -> str:
    """One line on an error of pydantic: the key, the rule and the fix."""
    key = ".".join(str(part) for part in item["loc"]) or "config"
    if item["type"] == "extra_forbidden":
        owner: Any = config_class
        for part in item["loc"][:-1]:
            owner = model_of(owner.model_fields[part].annotation) if owner else None
        others = _keys_named(config_class, item["loc"][-1], item["input"])
        if owner and not others:
            others = difflib.get_close_matches(item["loc"][-1], owner.model_fields, 1)
        known = ", ".join(sorted(owner.model_fields)) if owner else "see --help"
        meant = f"; did you mean {' or '.join(others)}?" if others else ""
        return f"{key}: unknown key; known: {known}{meant}"
    if item["type"] == "missing":
        return f"{key}: required, but not given (key=value or in the YAML)"
    if item["type"] == "model_type":
        return f"{key}: has keys of its own, as {key}.KEY=VALUE (got {item['input']!r})"
    if item["type"] == "tuple_type":
        return f"{key}: give a list, as [{item['input']}]"
    message = message_of(item)
    given = "" if item["type"] == "value_error" else f" (got {item['input']!r})"
    return f"{key}: {message}{given}"


def _keys_named(config_class: type[BaseModel], name: Any, value: Any) -> list[str]:
    """The keys of a config that end as an unknown key, or as one inside it, does.

    ``max_failures`` finds ``runtime.max_failures``, ``resources: {actors: 1}`` finds
    ``runtime.actors``.
    """
    keys = list(nested_keys(config_class))
    for names in ([name], value if isinstance(value, Mapping) else []):
        found = [key for key in keys if key.rpartition(".")[2] in names]
        if found:
            return found
    return []


def nested_keys(config_class: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Every dotted key of a config."""
    for name, field in config_class.model_fields.items():
        yield f"{prefix}{name}"
        inner = model_of(field.annotation)
        if inner is not None and inner.model_config.get("extra") == "forbid":
            yield from nested_keys(inner, f"{prefix}{name}.")
