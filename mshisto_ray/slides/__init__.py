"""Family of slide readers: ``build(path) -> Slide``.

``build`` raises SlideError: ``MissingFile`` if there is no such file, ``NotASlide`` if
the reader cannot open it. A reader's module also declares

- ``opens(path) -> bool``: whether the file is of a format that the reader supports,
  by its name or first bytes; raises nothing.

A reader that replaces OpenSlide where it is faster also declares

- ``STANDS_IN = {pixels: place}``: for these values of the config's ``pixels`` it is
  tried before OpenSlide, the lowest place first. Its native levels must equal
  OpenSlide's pixel for pixel, which is checked on every slide;
- ``ABOUT``: the reason that ``slides.parquet`` records for this reader.
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
    Frame,
    Level,
    Slide,
    SlideError,
    checked_mpp,
    frame_of,
    gaps_of,
    read_held,
    read_nearest,
    unsound_levels,
)
from mshisto_ray.slides._threads import in_threads

__all__ = [
    "AUTO",
    "FAMILY",
    "READ_LIMIT_S",
    "REFERENCE",
    "Frame",
    "Level",
    "Slide",
    "SlideError",
    "Watchdog",
    "checked_mpp",
    "frame_of",
    "gaps_of",
    "in_threads",
    "open_slide",
    "other_reader",
    "plain_reader",
    "read_held",
    "read_nearest",
    "stand_ins",
    "unsound_levels",
]
