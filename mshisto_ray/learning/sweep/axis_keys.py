"""The keys of axes: how they may be written, and whether a config has them."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from mshisto_ray import components
from mshisto_ray.components import Family, Part
from mshisto_ray.config import Config, InputError
from mshisto_ray.config_problems import nested_keys
from mshisto_ray.help import model_of

_OF_A_RANGE = {"low", "high"}


def flat(axes: Any) -> Any:
    """Axes with dotted keys; ``{noise: {sigma: [0, 1]}}`` is ``noise.sigma``.

    So ``axes.noise.sigma=[0,1]`` of a command line means what it looks like.

    Raises:
        ValueError: no mapping of keys to values.
    """
    if not isinstance(axes, Mapping):
        raise ValueError(
            f"give {{key: values}}, as {{noise.sigma: [0, 0.1]}}; got {axes!r}"
        )
    found: dict[Any, Any] = {}
    for key, value in axes.items():
        is_nested = isinstance(value, Mapping) and not _OF_A_RANGE & {*value}
        if not is_nested:
            found[key] = value
            continue
        if "name" in value:
            raise ValueError(f"{key}: give a list of parts, as [{dict(value)!r}]")
        found |= {f"{key}.{inner}": v for inner, v in flat(value).items()}
    return found


def families(point_class: type[Config]) -> dict[str, str]:
    """The package of the family of each key that holds a part."""
    return {
        key: mark.package
        for key, field in point_class.model_fields.items()
        for mark in field.metadata
        if isinstance(mark, Family)
    }


def check_key(key: str, point_class: type[Config], own: type[Config]) -> None:
    """Refuse the key of an axis that no config has.

    The parameters of parts are checked where the part is known.

    Args:
        key: dotted.
        point_class: of the configs of a sweep.
        own: of the keys that axes have beside them, as ``search``.

    Raises:
        InputError: of one line, with the keys that were probably meant.
    """
    owner, *rest = key.split(".")
    if owner not in point_class.model_fields:
        if owner in own.model_fields or owner == "out":
            raise InputError(
                f"axes.{key}: {owner} is of the sweep, one for all configs: "
                f"give {key}=VALUE outside of axes"
            )
        raise InputError(f"axes.{key}: no such key{_meant(key, point_class)}")
    if owner in families(point_class):
        return
    model: type[BaseModel] | None = point_class
    path = ""
    for name in (owner, *rest):
        if model is None:
            raise InputError(
                f"axes.{key}: {path} is one value, it has no keys inside: give "
                f"axes.{path}=[...]"
            )
        if name not in model.model_fields:
            raise InputError(
                f"axes.{key}: no key {name!r} in {path}, which has "
                f"{', '.join(model.model_fields)}"
            )
        path = f"{path}.{name}" if path else name
        model = model_of(model.model_fields[name].annotation)


def _meant(key: str, point_class: type[Config]) -> str:
    """``: did you mean noise.sigma?``, or the keys there are."""
    last = key.rpartition(".")[2]
    known = list(nested_keys(point_class))
    for owner, family in families(point_class).items():
        part = point_class.model_fields[owner].default
        if isinstance(part, Part):
            names = components.schema(family, part.name).model_fields
            known += [f"{owner}.{name}" for name in names]
    found = [name for name in known if name.rpartition(".")[2] == last]
    found = found or difflib.get_close_matches(key, known, 1)
    found = found or difflib.get_close_matches(key.split(".")[0], known, 1)
    if found:
        return f": did you mean {' or '.join(found)}?"
    return f"; known: {', '.join(sorted(point_class.model_fields))}"
