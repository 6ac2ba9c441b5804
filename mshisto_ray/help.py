"""The text of ``--help``: every key of a config with type, default, unit and limits."""

from __future__ import annotations

import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

_PLAIN = {
    bool: "true or false",
    int: "whole number",
    float: "number",
    str: "text",
    Path: "path",
    type(None): "null",
}
_LIMITS = {"Gt": "above", "Ge": "at least", "Lt": "below", "Le": "at most"}
_USAGE = "[CONFIG.yaml] [key=value ...] [--check] [--help]"


def help_text(config_class: type[BaseModel], doc: str, command: str = "JOB") -> str:
    """Every key with its type, default, unit, limits and meaning.

    ``doc``: of the job; its first line is the heading. ``command``: as it is typed.
    """
    head = doc.strip().splitlines()[0] if doc.strip() else config_class.__name__
    return "\n".join(
        [head, "", f"usage: {command} {_USAGE}", "", *_lines(config_class, "")]
    )


def model_of(annotation: Any) -> type[BaseModel] | None:
    """The model in an annotation (``Model``, ``Model | None``), None where none is."""
    for candidate in (annotation, *typing.get_args(annotation)):
        if isinstance(candidate, type) and issubclass(candidate, BaseModel):
            return candidate
    return None


def _lines(model: type[BaseModel], prefix: str) -> list[str]:
    lines: list[str] = []
    for name, field in model.model_fields.items():
        parts = _parts(field)
        inner = model_of(field.annotation)
        if inner is not None and not parts:
            if inner is not field.annotation:  # may be left out as a whole
                shown = "null" if field.default is None else "{...}"
                lines += [f"  {prefix}{name}: keys below, or null = {shown}"]
                lines += [f"      {field.description}"] if field.description else []
            lines += _lines(inner, f"{prefix}{name}.")
            continue
        lines.append(f"  {prefix}{name}: {_describe(field)}")
        if field.description:
            lines.append(f"      {field.description}")
        lines += [f"      {part}" for part in parts]
    return lines


def _describe(field: FieldInfo) -> str:
    """Type, limits, unit and default, as ``number, above 0 [um/px] = 0.5``."""
    words = ", ".join([type_name(field.annotation), *_limits(field.metadata)])
    extra = field.json_schema_extra
    unit = f" [{extra['unit']}]" if isinstance(extra, dict) and "unit" in extra else ""
    return f"{words}{unit}{_default(field)}"


def _default(field: FieldInfo) -> str:
    default = field.get_default(call_default_factory=False)
    if field.is_required():
        return " (required)"
    if default is PydanticUndefined or (default is None and field.default_factory):
        return ""
    return f" = {as_typed(default)}"


def as_typed(value: Any) -> str:
    """A default as a user would type it: YAML in one line."""
    if isinstance(value, BaseModel):
        value = value.model_dump()
    if isinstance(value, Mapping):
        inner = ", ".join(f"{key}: {as_typed(v)}" for key, v in value.items())
        return f"{{{inner}}}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(as_typed, value))}]"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return f"{value:g}" if isinstance(value, float) else str(value)


def _limits(metadata: list[Any]) -> list[str]:
    """``at least 16``, ``below 1``, ``at least 2 entries``."""
    found = []
    for limit in metadata:
        kind = type(limit).__name__
        if isinstance(limit, FieldInfo):
            found += _limits(limit.metadata)
        elif kind in _LIMITS:
            found.append(f"{_LIMITS[kind]} {getattr(limit, kind.lower()):g}")
        elif kind == "MinLen" and limit.min_length > 1:
            found.append(f"at least {limit.min_length} entries")
        elif kind == "MinLen":
            found.append("not empty")
    return found


def _parts(field: FieldInfo) -> list[str]:
    """The parts of a key's family with their parameters (see components.Family)."""
    found: list[Any] = [*field.metadata]
    for argument in typing.get_args(field.annotation):
        found += [argument, *getattr(argument, "__metadata__", ())]
    return [line for m in found if hasattr(m, "describe") for line in m.describe()]


def type_name(annotation: Any) -> str:
    """A type in plain words: ``list of numbers``, ``number or null``."""
    origin, args = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Annotated:
        return ", ".join([type_name(args[0]), *_limits(list(args[1:]))])
    if origin in (typing.Union, types.UnionType):
        return " or ".join(type_name(a) for a in args)
    if origin is typing.Literal:
        return " or ".join(map(str, args))
    if origin in (tuple, list) and args and (origin is list or args[-1] is Ellipsis):
        return f"list of {_plural(args[0])}"
    if origin is tuple:
        return f"list of {len(args)} {_plural(args[0])}"
    if origin is dict:
        return f"{{name: {type_name(args[1])}, ...}}"
    if model_of(annotation) is not None:
        return "{name: ...}" if annotation.__name__ == "Part" else "{key: value, ...}"
    return _PLAIN.get(annotation, "any value")


def _plural(annotation: Any) -> str:
    """``numbers``, ``numbers (above 0)``; choices and parts stay as they are."""
    if typing.get_origin(annotation) is Annotated:
        plain, *metadata = typing.get_args(annotation)
        limits = ", ".join(_limits(metadata))
        return f"{_plural(plain)} ({limits})" if limits else _plural(plain)
    name = type_name(annotation)
    return f"{name}s" if annotation in (int, float, Path) else name
