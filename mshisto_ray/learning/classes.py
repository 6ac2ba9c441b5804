"""The class names of a target, as a config takes them."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BeforeValidator


def _distinct(classes: tuple[str, ...]) -> tuple[str, ...]:
    if len(classes) < 2 or len(set(classes)) < len(classes):
        raise ValueError("give at least two classes, each once")
    return classes


# YAML reads 0 and 1 as numbers.
ClassName = Annotated[str, BeforeValidator(str)]
# At least two names, in the order of the probabilities.
Classes = Annotated[tuple[ClassName, ...], AfterValidator(_distinct)]
