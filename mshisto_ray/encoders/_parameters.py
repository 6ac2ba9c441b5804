"""Types of the parameters of encoders."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field, TypeAdapter

from mshisto_ray.config import InputPath

_PATH = TypeAdapter(InputPath)


def _local(given: str) -> str:
    return str(_PATH.validate_python(Path(given)))


# Absolute, for every worker.
LocalPath = Annotated[str, AfterValidator(_local)]
# One number for each of red, green, blue.
Channels = Annotated[tuple[float, float, float], Field()]
# Side of an input.
Pixels = Annotated[int, Field(ge=16)]
