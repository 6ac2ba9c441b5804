"""Short names of the points of a sweep, and the settings in which they differ."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mshisto_ray.learning.sweep.points import Point, show
from mshisto_ray.tracking import flatten

_MAX_CHARACTERS = 40
# A noise of whatever kind has a level, which its name alone says best.
_WORDS = {"noise.sigma": "noise"}
_PARTS = ("pooling", "combine", "noise", "reduction")
_ALONE = (*_PARTS, "views")  # whose values need no word


def point_names(points: Mapping[str, Point]) -> dict[str, str]:
    """A distinct name of at most 40 characters for each point, by digest.

    ``gated_attention, noise .1``: what the axes set, a part by its name alone where
    that distinguishes it from the others of its axis, a number by the last word of its
    key.
    """
    axes = list(dict.fromkeys(key for p in points.values() for key in p.values))
    columns = {key: _words(key, axes, points) for key in axes}
    names = {
        digest: ", ".join(columns[key][digest] for key in point.values)
        or point.config.plain_name
        for digest, point in points.items()
    }
    short = {digest: _cut(name) for digest, name in names.items()}
    taken = Counter(short.values())
    return {
        digest: name if taken[name] == 1 else f"{name[:34]} {digest[:5]}"
        for digest, name in short.items()
    }


def differing(points: Mapping[str, Point]) -> dict[str, dict[str, str]]:
    """Settings that are not the same at all points, or that an axis sets, by digest.

    Keys are dotted, as those of overrides; values are text. A parameter that always
    comes with its part (``pooling.hidden`` with one ``pooling``) is no difference.
    """
    flat = {
        digest: flatten(point.config.model_dump(mode="json", exclude={"runtime"}))
        for digest, point in points.items()
    }
    axes = dict.fromkeys(key for point in points.values() for key in point.values)
    keys = axes | dict.fromkeys(key for found in flat.values() for key in found)
    settings = list(flat.values())
    wanted = [key for key in keys if key in axes or _differs(key, settings)]
    return {
        digest: {key: found[key] for key in wanted if key in found}
        for digest, found in flat.items()
    }


def _differs(key: str, settings: Sequence[Mapping[str, str]]) -> bool:
    """Whether a setting takes two values, of a part's parameters with the same part."""
    part = key.partition(".")[0]
    owner = part if part in _PARTS and part != key else None
    values = {(s.get(owner or ""), s.get(key)) for s in settings}
    owners = {first for first, _ in values}
    return len(values) > len(owners)


def _words(
    key: str, axes: Sequence[str], points: Mapping[str, Point]
) -> dict[str, str]:
    """The words for an axis at each point, by digest."""
    values = {d: p.values[key] for d, p in points.items() if key in p.values}
    given = {json.dumps(value, default=str) for value in values.values()}
    short = {digest: shorten(value) for digest, value in values.items()}
    if len(set(short.values())) < len(given):
        short = {digest: _in_full(value) for digest, value in values.items()}
    if key in _ALONE:
        return short
    word = _word(key)
    if [_word(other) for other in axes if other not in _ALONE].count(word) > 1:
        word = key
    return {digest: f"{word} {text}" for digest, text in short.items()}


def _in_full(value: Any) -> str:
    """A part with its parameters, of which a single one needs no name: ``pca 16``."""
    if isinstance(value, Mapping) and "name" in value and len(value) == 2:
        (parameter,) = (v for k, v in value.items() if k != "name")
        return f"{value['name']} {shorten(parameter)}"
    return show(value)


def _word(key: str) -> str:
    return _WORDS.get(key) or key.rpartition(".")[2]


def shorten(value: Any) -> str:
    """A value as a word: a part by its name alone, a path by its last folder.

    An empty list, as ``hidden`` of a head without hidden layers, is ``none``.
    """
    if value in ([], ()):
        return "none"
    if isinstance(value, Mapping) and "name" in value:
        return str(value["name"])
    if isinstance(value, float):
        text = f"{value:g}".replace("e-0", "e-")
        return text.replace("0.", ".", 1) if 0 < value < 1 else text
    if isinstance(value, str) and "/" in value:
        return Path(value).name
    return show(value)


def _cut(name: str) -> str:
    if len(name) <= _MAX_CHARACTERS:
        return name
    return name[: _MAX_CHARACTERS - 3] + "..."
