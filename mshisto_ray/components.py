"""Families of interchangeable parts: one file per part, named after the part.

A family is a package (``mshisto_ray.mil.poolings``). Each of its modules without a
leading underscore is a part and has one public function, ``build``: positional
arguments are known only at run time (a width, a path), keyword-only arguments are the
part's config, and their annotations are its schema. Beside ``build`` a module may
declare more (``declaration``), under names that its family's ``__init__`` or ``_*.py``
documents.

Other installed packages add parts by an entry point in the group ``mshisto_ray.``
plus the family's folder (``mshisto_ray.poolings``); its name is the part's name, its
value a module like those here. No part is imported before it is used.

A family may hold parts that are data: each YAML file in its folder ``recipes`` is a
part of that name, which the family's module ``recipe`` makes a module of (``of_file``).
"""

from __future__ import annotations

import functools
import importlib
import inspect
import pkgutil
import sys
import typing
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import EntryPoint, EntryPoints, entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

from pydantic import (
    BaseModel,
    ConfigDict,
    ValidationError,
    create_model,
    model_validator,
)
from pydantic_core import core_schema

from mshisto_ray.config_problems import distinct_errors, message_of
from mshisto_ray.help import as_typed


class Part(BaseModel):
    """``{name: gated_attention, hidden: 256}``: a part's name and its parameters.

    A name alone is the part with its defaults.
    """

    model_config = ConfigDict(extra="allow", frozen=True)
    name: str

    @model_validator(mode="before")
    @classmethod
    def _of_a_name(cls, raw: Any) -> Any:
        return {"name": raw} if isinstance(raw, str) else raw

    @property
    def parameters(self) -> dict[str, Any]:
        """The parameters without the name."""
        return dict(self.model_extra or {})


def available(family: str) -> list[str]:
    """Names of a family's parts, also of other packages, sorted; imports no part."""
    return sorted({*_own(family), *recipes(family), *_installed(family).names})


def recipes(family: str) -> dict[str, Path]:
    """A family's parts that are data: their YAML files by name."""
    package = importlib.import_module(family)
    return {path.stem: path for path in _recipe_files(tuple(package.__path__))}


def module(family: str, name: str) -> ModuleType:
    """Import a part.

    Raises:
        ValueError: no such part, two of that name, or one of another package that
            cannot be imported.
    """
    data = recipes(family)
    own = [*_own(family), *data]
    points = [*_installed(family).select(name=name)]
    kind = family.rsplit(".", 1)[-1]
    if name not in own and not points:
        raise ValueError(f"no {name!r} in {kind}; have {', '.join(available(family))}")
    if len(points) + (name in own) > 1:
        owners = ["mshisto_ray"] * (name in own) + [_package(p) for p in points]
        raise ValueError(
            f"{name!r} in {kind} is a part of {' and of '.join(owners)}: uninstall "
            f"{_package(points[-1])}, or give its part another name"
        )
    if points:
        return _load(kind, points[0])
    if name in data:
        return importlib.import_module(f"{family}.recipe").of_file(data[name])
    return importlib.import_module(f"{family}.{name}")


def declaration(family: str, name: str, key: str, default: Any) -> Any:
    """What a part's module declares under a key, or the default."""
    return getattr(module(family, name), key, default)


def declarations(family: str, key: str) -> dict[str, Any]:
    """What parts declare under a key, by part; parts without it are left out.

    Parts of other packages that cannot be imported are left out too; naming one in a
    config reports the error.
    """
    found = {}
    for name in available(family):
        try:
            value = declaration(family, name, key, None)
        except ValueError:
            continue
        if value is not None:
            found[name] = value
    return found


def builder(family: str, name: str) -> Callable[..., Any]:
    """The ``build`` function of a part; a ValueError lists the parts if unknown."""
    return module(family, name).build


def _own(family: str) -> tuple[str, ...]:
    return _modules(tuple(importlib.import_module(family).__path__))


# A sweep checks thousands of parts: folders are listed, and models made, once.
@functools.cache
def _modules(path: tuple[str, ...]) -> tuple[str, ...]:
    names = (m.name for m in pkgutil.iter_modules(path) if not m.ispkg)
    return tuple(name for name in names if not name.startswith("_"))


@functools.cache
def _recipe_files(path: tuple[str, ...]) -> tuple[Path, ...]:
    files = (Path(folder).glob("recipes/*.yaml") for folder in path)
    return tuple(one for found in files for one in sorted(found))


def _installed(family: str) -> EntryPoints:
    """Parts that other packages add to a family."""
    group = f"mshisto_ray.{family.rsplit('.', 1)[-1]}"
    return _entry_points(tuple(sys.path), group)


@functools.cache  # a scan of every installed package takes a tenth of a second
def _entry_points(_path: tuple[str, ...], group: str) -> EntryPoints:
    return _all_entry_points(_path).select(group=group)


@functools.cache
def _all_entry_points(_path: tuple[str, ...]) -> Any:
    return entry_points()


def _load(kind: str, point: EntryPoint) -> ModuleType:
    part = f"{point.name!r} in {kind}, from the package {_package(point)}"
    try:
        found = point.load()
    except Exception as error:  # whatever another package does when it is imported
        raise ValueError(f"{part}: {type(error).__name__}: {error}") from error
    if not callable(getattr(found, "build", None)):
        raise ValueError(f"{part}: {point.value} has no function `build`")
    return found


def _package(point: EntryPoint) -> str:
    return point.dist.name if point.dist else point.value


def schema(family: str, name: str) -> type[BaseModel]:
    """The keyword-only parameters of a part's ``build`` as a pydantic model."""
    return _schema(f"{family}.{name}", builder(family, name))


@functools.cache
def _schema(title: str, function: Callable[..., Any]) -> type[BaseModel]:
    hints = typing.get_type_hints(function, include_extras=True)
    fields: dict[str, Any] = {}
    passes_through = False
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind is parameter.KEYWORD_ONLY:
            empty = parameter.default is parameter.empty
            default = ... if empty else parameter.default
            fields[parameter.name] = (hints[parameter.name], default)
        passes_through |= parameter.kind is parameter.VAR_KEYWORD
    config = ConfigDict(
        extra="allow" if passes_through else "forbid", protected_namespaces=()
    )
    return create_model(title, __config__=config, **fields)


def check(family: str, part: Part) -> Part:
    """The part with every parameter typed and every default filled in.

    Raises:
        ValueError: unknown part, unknown parameter, or a value out of its range.
    """
    model = schema(family, part.name)
    try:
        filled = model.model_validate(part.parameters)
    except ValidationError as error:
        takes = ", ".join(model.model_fields) or "no parameters"
        problems = []
        for item in distinct_errors(error):
            key = ".".join(str(p) for p in item["loc"])
            if item["type"] == "extra_forbidden":
                problems.append(f"{part.name!r} takes {takes}; got {key!r}")
            else:
                problems.append(f"{part.name}.{key}: {message_of(item)}")
        raise ValueError("; ".join(problems)) from None
    return Part(name=part.name, **filled.model_dump())


def build(family: str, part: Part, *runtime: Any) -> Any:
    """Build a part from its config and its run-time arguments."""
    return builder(family, part.name)(*runtime, **part.parameters)


@dataclass(frozen=True)
class Family:
    """Annotates a config key that holds a part: ``Annotated[Part, Family(...)]``."""

    package: str

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        return core_schema.no_info_after_validator_function(
            lambda part: check(self.package, part), handler(source)
        )

    def describe(self) -> list[str]:
        """One line a part with parameters and defaults; ``SUMMARY`` may end it."""
        lines = []
        for name in available(self.package):
            try:
                fields = schema(self.package, name).model_fields
            except ValueError as error:  # the other parts are still listed
                lines.append(f"{{name: {name}}}: cannot be used: {error}")
                continue
            shown = [
                key if field.is_required() else f"{key}: {as_typed(field.default)}"
                for key, field in fields.items()
            ]
            lines.append("{" + ", ".join([f"name: {name}", *shown]) + "}")
            lines[-1] += declaration(self.package, name, "SUMMARY", "")
        return lines


@dataclass(frozen=True)
class NameOf:
    """Annotates a config key whose value is a part's name, or one of ``words``."""

    package: str
    words: tuple[str, ...] = ()

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        return core_schema.no_info_after_validator_function(
            self._check, handler(source)
        )

    def _check(self, name: str) -> str:
        if name not in self.words:
            builder(self.package, name)
        return name

    def describe(self) -> list[str]:
        """The allowed values, for ``--help``."""
        return [" | ".join([*self.words, *available(self.package)])]
