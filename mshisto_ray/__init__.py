"""Multi-scale histopathology on Ray.

``open_slide``, ``read_embeddings``, ``read_bags``, ``fit``, ``predict`` and ``run`` are
the functions to use from Python. What they need is imported on first use.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mshisto_ray.api.errors import (
        InputError,
        JobFailedError,
        SlideError,
        TooManyFailuresError,
    )
    from mshisto_ray.api.jobs import run
    from mshisto_ray.api.models import fit, predict, read_bags
    from mshisto_ray.api.reading import open_slide, read_embeddings

__all__ = [
    "InputError",
    "JobFailedError",
    "SlideError",
    "TooManyFailuresError",
    "fit",
    "open_slide",
    "predict",
    "read_bags",
    "read_embeddings",
    "run",
]
_MODULES = {
    "errors": ("InputError", "JobFailedError", "SlideError", "TooManyFailuresError"),
    "jobs": ("run",),
    "models": ("fit", "predict", "read_bags"),
    "reading": ("open_slide", "read_embeddings"),
}


def __getattr__(name: str) -> Any:
    for module, names in _MODULES.items():
        if name in names:
            found = importlib.import_module(f"mshisto_ray.api.{module}")
            return getattr(found, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
