"""The words of ``--help``."""

from pathlib import Path
from typing import Annotated, Literal

import pytest

from mshisto_ray.config import Config, option
from mshisto_ray.help import as_typed, help_text, type_name

Micrometres = Annotated[float, option(gt=0)]


@pytest.mark.parametrize(
    ("annotation", "words"),
    [
        (int, "whole number"),
        (float | None, "number or null"),
        (tuple[float, ...], "list of numbers"),
        (tuple[float, float, float], "list of 3 numbers"),
        (tuple[Path, ...] | Path, "list of paths or path"),
        (dict[str, float], "{name: number, ...}"),
        (Literal["rgb", "gray"], "rgb or gray"),
        (tuple[Literal["rgb", "gray"], ...], "list of rgb or gray"),
        (list[str], "list of text"),
    ],
)
def test_types_are_plain_words(annotation, words):
    assert type_name(annotation) == words


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "null"),
        (True, "true"),
        ((0.5, 1.0), "[0.5, 1]"),
        ({"name": "mean", "hidden": ()}, "{name: mean, hidden: []}"),
        (Path("a/b"), "a/b"),
    ],
)
def test_defaults_are_shown_as_they_are_typed(value, text):
    assert as_typed(value) == text


class Inner(Config):
    patience: int = option(10, "epochs", ge=1)


class Outer(Config):
    """Example."""

    size: int = option(16, "side", unit="px", ge=16, lt=99)
    distances: tuple[Micrometres, ...] = option((1.0,), unit="um", min_length=2)
    stopping: Inner | None = option(None, "null: never")


def test_limits_units_and_optional_sections_are_shown():
    text = help_text(Outer, "Do it.\n\nMore.")
    assert text.startswith("Do it.\n")
    assert "size: whole number, at least 16, below 99 [px] = 16\n      side" in text
    assert "distances: list of numbers (above 0), at least 2 entries [um] = [1]" in text
    assert "stopping: keys below, or null = null\n      null: never" in text
    assert "stopping.patience: whole number, at least 1 = 10" in text
