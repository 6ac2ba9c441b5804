"""Types of the parameters of encoders."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field, TypeAdapter

from mshisto_ray.config import InputPath

_PATH = TypeAdapter(InputPath)
# In place of a path.
_WORDS = ("pretrained", "random")


def _local(given: str) -> str:
    return str(_PATH.validate_python(Path(given)))


def _weights(given: str) -> str:
    return given if given in _WORDS else _local(given)


# Absolute, for every worker.
LocalPath = Annotated[str, AfterValidator(_local)]
Weights = Annotated[str, AfterValidator(_weights)]
# One number for each of red, green, blue.
Channels = Annotated[tuple[float, float, float], Field()]
# Side of an input.
Pixels = Annotated[int, Field(ge=16)]
