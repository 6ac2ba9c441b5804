"""What a cohort's resolutions say against those of the slides' files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

# Share by which the cohort's mpp may differ from the file's without a warning.
_APART = 0.05


def resolution_notes(slides: Sequence[Mapping[str, Any]]) -> list[str]:
    """A warning where the cohort's resolution contradicts the files'."""
    apart = [
        slide
        for slide in slides
        if slide["mpp_of_file"]
        and abs(slide["mpp"] / slide["mpp_of_file"] - 1) > _APART
    ]
    if not apart:
        return []
    first = apart[0]
    return [
        f"warning: the cohort's mpp is used for {len(apart)} slides whose files say "
        f"another (for example {first['slide_id']}: {first['mpp']:g} um/px, file "
        f"{first['mpp_of_file']:.4g}): empty these cells where the file is right"
    ]
