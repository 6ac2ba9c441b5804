"""The class names of a target, as a config takes them."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BeforeValidator

from mshisto_ray.store.spelling import canonical_number, explain_clashes


def _distinct(classes: tuple[str, ...]) -> tuple[str, ...]:
    if len(classes) < 2 or len(set(classes)) < len(classes):
        raise ValueError("give at least two classes, each once")
    problems = explain_clashes("classes", classes)
    if problems:
        raise ValueError("; ".join(problems))
    return classes


def _text(name: object) -> str:
    """Return a name as tables are read: YAML reads 0 and 1.0 as numbers."""
    return canonical_number(str(name))


ClassName = Annotated[str, BeforeValidator(_text)]
# At least two names, in the order of the probabilities.
Classes = Annotated[tuple[ClassName, ...], AfterValidator(_distinct)]
