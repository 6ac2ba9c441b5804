"""Families of interchangeable parts: one file per part, named after the part.

A family is a package (``mshisto_ray.mil.poolings``). Each of its modules without a
leading underscore is a part and has one public function, ``build``: positional
arguments are known only at run time (a width, a path), keyword-only arguments are the
part's config, and their annotations are its schema.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import typing
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pydantic import (
    BaseModel,
    ConfigDict,
    ValidationError,
    create_model,
    model_validator,
)
from pydantic_core import core_schema


class Part(BaseModel):
    """``{name: gated_attention, hidden: 256}``: a part's name and its parameters."""

    model_config = ConfigDict(extra="allow", frozen=True)
    name: str

    @model_validator(mode="before")
    @classmethod
    def _is_more_than_a_name(cls, raw: Any) -> Any:
        if isinstance(raw, str):
            raise ValueError(f"{raw!r} is a name alone: write {{name: {raw}}}")
        return raw

    @property
    def parameters(self) -> dict[str, Any]:
        """The parameters without the name."""
        return dict(self.model_extra or {})


def available(family: str) -> list[str]:
    """Names of a family's parts, sorted; no part is imported."""
    package = importlib.import_module(family)
    names = (m.name for m in pkgutil.iter_modules(package.__path__) if not m.ispkg)
    return sorted(name for name in names if not name.startswith("_"))


def builder(family: str, name: str) -> Callable[..., Any]:
    """The ``build`` function of a part; a ValueError lists the parts if unknown."""
    if name not in available(family):
        kind = family.rsplit(".", 1)[-1]
        raise ValueError(f"no {name!r} in {kind}; have {', '.join(available(family))}")
    return importlib.import_module(f"{family}.{name}").build


def schema(family: str, name: str) -> type[BaseModel]:
    """The keyword-only parameters of a part's ``build`` as a pydantic model."""
    function = builder(family, name)
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
    return create_model(f"{family}.{name}", __config__=config, **fields)


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
        for item in error.errors():
            key = ".".join(str(p) for p in item["loc"])
            if item["type"] == "extra_forbidden":
                problems.append(f"{part.name!r} takes {takes}; got {key!r}")
            else:
                problems.append(f"{part.name}.{key}: {item['msg']}")
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
        """One line per part with its parameters and defaults, for ``--help``."""
        lines = []
        for name in available(self.package):
            fields = schema(self.package, name).model_fields
            shown = [
                key if field.is_required() else f"{key}: {field.default}"
                for key, field in fields.items()
            ]
            lines.append("{" + ", ".join([f"name: {name}", *shown]) + "}")
        return lines
