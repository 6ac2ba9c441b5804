"""Family of slide readers: ``build(path) -> Slide``."""

from mshisto_ray.slides._open import (
    READ_LIMIT_S,
    REFERENCE,
    Watchdog,
    open_slide,
)
from mshisto_ray.slides._slide import (
    Level,
    Slide,
    SlideError,
    checked_mpp,
)

__all__ = [
    "READ_LIMIT_S",
    "REFERENCE",
    "Level",
    "Slide",
    "SlideError",
    "Watchdog",
    "checked_mpp",
    "open_slide",
]
