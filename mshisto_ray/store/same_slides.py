"""Rows of a cohort that are one slide: links to one file, files of one DICOM series."""

from __future__ import annotations

import os
from collections.abc import Hashable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from mshisto_ray.store.dicom import is_dicom, series_uid

_SHOWN = 5


def explain_same_slides(slides: Sequence[tuple[str, Path]]) -> list[str]:
    """Return a line for each slide that a cohort has under several ids.

    Args:
        slides: id and existing file of each.
    """
    with ThreadPoolExecutor(16) as pool:  # files are often on a network
        files = list(pool.map(lambda slide: _file_key(slide[1]), slides))
        series = list(pool.map(lambda slide: series_uid(slide[1]), slides))
    ids = [slide_id for slide_id, _ in slides]
    found = [_line(same, "one file") for same in _groups(ids, files)]
    found += [
        _line(same, "files of one DICOM series")
        for same in _groups(ids, series)
        if _line(same, "one file") not in found
    ]
    return found


def explain_copies(
    keys: Mapping[str, Hashable], patients: Mapping[str, str]
) -> tuple[list[str], list[str]]:
    """Return problems and notes, a line per group of slides of the same content.

    Under different patients they are a problem: folds keep patients apart, not slides.
    Of one patient they stay together, and only weigh twice.

    Args:
        keys: equal for slides of the same content, None where that is unknown; by
            slide_id.
        patients: of each slide, by slide_id.
    """
    problems, notes = [], []
    for same in _groups(list(keys), list(keys.values())):
        owners = list(dict.fromkeys(patients[slide_id] for slide_id in same))
        said = f"slides {_few(same)} have the same content"
        if len(owners) > 1:
            problems.append(
                f"{said} and different patients ({_few(owners)}): keep one of them, or "
                "give them one patient_id; else the same tissue is trained on and "
                "tested"
            )
        else:
            notes.append(f"{said}: it counts {len(same)} times; keep one of them")
    return problems, notes


def explain_other_files(
    ones: Mapping[str, str], others: Mapping[str, str]
) -> str | None:
    """Name the slides that are other files in two directories; None: there are none.

    Args:
        ones: fingerprint of each slide's file, by slide_id.
        others: likewise.
    """
    apart = [s for s in sorted({*ones} & {*others}) if ones[s] != others[s]]
    if not apart:
        return None
    return f"{'slides' if apart[1:] else 'slide'} {_few(apart)}"


def folder_problem(path: Path) -> str | None:
    """Return why a folder is no slide, None if it may be one or is none."""
    if path.is_dir() and any(is_dicom(file) for file in path.iterdir()):
        return (
            f"{path} is a folder of DICOM files: give one file of the series; the "
            "others are found beside it"
        )
    return None


def _file_key(path: Path) -> Hashable:
    try:
        found = os.stat(path)
    except OSError:
        return None  # reported as a missing file
    return found.st_dev, found.st_ino


def _groups(ids: Sequence[str], keys: Sequence[Hashable]) -> list[list[str]]:
    """Return the different ids of each key that has several."""
    groups: dict[Hashable, dict[str, None]] = {}
    for slide_id, key in zip(ids, keys, strict=True):
        if key is not None:
            groups.setdefault(key, {})[slide_id] = None
    return [list(group) for group in groups.values() if len(group) > 1]


def _line(slide_ids: Sequence[str], why: str) -> str:
    return (
        f"slides {' and '.join(map(repr, slide_ids))} are one slide ({why}): keep one "
        "row of it, or the same tissue is trained on and tested"
    )


def _few(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if names[_SHOWN:] else ""
    return ", ".join(map(repr, names[:_SHOWN])) + more
