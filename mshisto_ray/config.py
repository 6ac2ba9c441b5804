"""Configs: one grammar for YAML file, command line, sweep axes and tests.

A job's config is a frozen pydantic model. It is read from an optional YAML file,
then from ``key=value`` words, and is refused as a whole (every problem at once)
before any work starts.
"""

from __future__ import annotations

import copy
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Self, TypeVar

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
)

from mshisto_ray.config_problems import distinct_errors, explain

# Set by Ray in the driver of a submitted job.
_SUBMITTED_JOB_VARIABLE = "RAY_JOB_CONFIG_JSON_ENV_VAR"


class InputError(ValueError):
    """Unusable input from the user; the message names the thing, rule and fix."""


class TooManyFailuresError(RuntimeError):
    """More slides failed than ``max_failures`` allows; the job exits with 3."""


class Config(BaseModel):
    """Base of every config: frozen, no unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)

    @classmethod
    def class_for(cls, raw: Mapping[str, Any]) -> type[Self]:
        """The class that has the keys of ``raw``: this one, or one of its kinds."""
        return cls


C = TypeVar("C", bound=Config)
M = TypeVar("M", bound=BaseModel)


# Of at least two letters: one is a drive of Windows.
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/")
# Enough for any config; a few more, nested, can expand to gigabytes.
_MOST_ALIASES = 100


def scheme_problem(path: str) -> str | None:
    """Return why an address such as ``s3://...`` is no path, None for a path."""
    scheme = _SCHEME.match(path)
    if not scheme:
        return None
    return (
        f"{path!r}: {scheme[1]} is not supported; give the path of a mounted file "
        "system"
    )


def _absolute(path: Path) -> Path:
    problem = scheme_problem(str(path))
    if problem:
        raise ValueError(problem)
    return path.expanduser().absolute()


def _absolute_output(path: Path) -> Path:
    if os.environ.get(_SUBMITTED_JOB_VARIABLE) and not path.expanduser().is_absolute():
        raise ValueError(
            f"{str(path)!r} is relative, and a submitted job runs in a temporary copy "
            "of the working folder: give an absolute path on shared storage"
        )
    return _absolute(path)


def _absolute_or_model(path: Path) -> Path:
    return path if str(path).startswith("models:/") else _absolute(path)


def _absolute_or_word(given: str) -> str:
    return given if given in ("random", "pretrained") else str(_absolute(Path(given)))


def _not_empty(given: Any) -> Any:
    if given is None or str(given).strip() == "":
        raise ValueError("empty: give a path, or leave the key out")
    return given


InputPath = Annotated[Path, BeforeValidator(_not_empty), AfterValidator(_absolute)]
# Weights of a network, absolute for every worker: a path, ``random`` or ``pretrained``.
Weights = Annotated[str, AfterValidator(_absolute_or_word)]
# A folder, or a model that is registered in MLflow: ``models:/name@alias``.
ModelPath = Annotated[
    Path, BeforeValidator(_not_empty), AfterValidator(_absolute_or_model)
]
OutputPath = Annotated[
    Path, BeforeValidator(_not_empty), AfterValidator(_absolute_output)
]


def option(default: Any = ..., text: str = "", unit: str = "", **limits: Any) -> Any:
    """A config key with its help text, unit and limits (``gt``, ``ge``, ``le``...)."""
    extra: Any = {"unit": unit} if unit else None
    return Field(default, description=text, json_schema_extra=extra, **limits)


def set_key(raw: Mapping[str, Any], dotted: str, value: Any) -> dict[str, Any]:
    """A copy of ``raw`` with ``dotted`` (``a.b.c``) set to ``value``."""
    result = copy.deepcopy(dict(raw))
    node = result
    *parents, last = dotted.split(".")
    for name in parents:
        child = node.setdefault(name, {})
        if not isinstance(child, dict):
            raise InputError(f"{dotted}: {name!r} is {child!r}, it has no keys inside")
        node = child
    node[last] = value
    return result


def set_keys(raw: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of ``raw`` with every dotted key of ``values`` set."""
    result = dict(raw)
    for key, value in values.items():
        result = set_key(result, key, value)
    return result


def parse_overrides(words: Sequence[str]) -> dict[str, Any]:
    """``key=value`` words to ``{dotted key: YAML value}``."""
    overrides: dict[str, Any] = {}
    for word in words:
        key, sign, text = word.partition("=")
        if not sign or not key:
            raise InputError(f"{word!r} is not key=value (nested: noise.sigma=0.1)")
        try:
            overrides[key] = value = _load_yaml(text)
        except yaml.YAMLError as error:
            raise InputError(
                f"{word!r}: the value is not YAML: {_where(error)}"
            ) from None
        glued = _glued(value)
        if glued:
            raise InputError(
                f"{word!r}: YAML wants a space after the colon: "
                f"{glued.replace(':', ': ', 1)!r} in place of {glued!r}"
            )
    return overrides


def _glued(value: Any) -> str | None:
    """The first key such as ``low:1``, which YAML reads as a key without a value."""
    inner: Iterable[Any] = value if isinstance(value, list) else ()
    if isinstance(value, dict):
        for key, content in value.items():
            if content is None and isinstance(key, str) and ":" in key:
                return key
        inner = value.values()
    return next(filter(None, map(_glued, inner)), None)


def _load_yaml(text: str) -> Any:
    aliases = sum(isinstance(e, yaml.AliasEvent) for e in yaml.parse(text))
    if aliases > _MOST_ALIASES:
        raise yaml.YAMLError(f"{aliases} aliases, more than {_MOST_ALIASES}")
    return yaml.safe_load(text)


def _where(error: yaml.YAMLError) -> str:
    """What is wrong with a YAML text, and at which place, in one line."""
    if not isinstance(error, yaml.MarkedYAMLError) or error.problem_mark is None:
        return " ".join(str(error).split())
    mark = error.problem_mark
    return f"{error.problem} at line {mark.line + 1}, column {mark.column + 1}"


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file."""
    if not path.is_file():
        raise InputError(f"{path}: no such config file")
    try:
        raw = _load_yaml(path.read_text())
    except yaml.YAMLError as error:
        raise InputError(f"{path}: not valid YAML: {_where(error)}") from None
    if raw is None:
        return {}
    if not isinstance(raw, dict):
        raise InputError(f"{path}: a config is a mapping of keys, got {raw!r}")
    return raw


def validate(config_class: type[M], raw: Mapping[str, Any]) -> M:
    """``raw`` as a config; raises InputError with one line per problem."""
    try:
        return config_class.model_validate(dict(raw))
    except ValidationError as error:
        lines = [explain(config_class, item) for item in distinct_errors(error)]
        raise InputError("\n".join(lines)) from None


def load(config_class: type[C], path: Path | None, overrides: Mapping[str, Any]) -> C:
    """The config of a YAML file with dotted overrides applied."""
    raw = set_keys(read_yaml(path) if path else {}, overrides)
    return validate(config_class.class_for(raw), raw)


def to_yaml(config: Config) -> str:
    """The resolved config as YAML, every default written out."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)
