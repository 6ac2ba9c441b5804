"""Family of slide readers: ``build(path) -> Slide``.

``build`` raises SlideError, named ``MissingFile`` or ``NotASlide`` where there is no
such file or it is none. A reader's module also has

- ``opens(path) -> bool``, a look at the name or the first bytes: False where the file
  is none of the reader's, which ``build`` need not try; it raises nothing.

It may say beside it:

- ``STANDS_IN = {pixels: place}``: its native levels are OpenSlide's, pixel for pixel,
  and it is tried before OpenSlide where the config says so of ``pixels``, the lowest
  place first; what it gives is compared;
- ``ABOUT``: why it stands in, for the record.
"""

from mshisto_ray.slides._open import (
    AUTO,
    FAMILY,
    READ_LIMIT_S,
    REFERENCE,
    Watchdog,
    open_slide,
    other_reader,
    plain_reader,
    stand_ins,
)
from mshisto_ray.slides._slide import (
    Level,
    Slide,
    SlideError,
    checked_mpp,
)

__all__ = [
    "AUTO",
    "FAMILY",
    "READ_LIMIT_S",
    "REFERENCE",
    "Level",
    "Slide",
    "SlideError",
    "Watchdog",
    "checked_mpp",
    "open_slide",
    "other_reader",
    "plain_reader",
    "stand_ins",
]
