"""How well the scores of predicted bags find annotated tiles."""

from __future__ import annotations

from pathlib import Path

from mshisto_ray.config import InputError
from mshisto_ray.evaluation import localisation
from mshisto_ray.mil.head import Head
from mshisto_ray.prediction.unit import Bag, shard_path
from mshisto_ray.statistics.bootstrap import Interval
from mshisto_ray.store.spelling import explain_clashes
from mshisto_ray.store.tiles import TileDirectory


def localise(
    out: Path,
    head: Head,
    bags: list[Bag],
    tiles: Path,
    annotation: str | None,
    notes: list[str],
) -> dict[str, Interval]:
    """Metrics of how well scores find annotated tiles; none without annotations.

    Appends to ``notes`` what is measured, or why nothing is.
    """
    directory = TileDirectory(tiles)
    patients = {slide: bag.patient_id for bag in bags for slide in bag.slide_ids}
    names = localisation.annotation_names(directory, patients)
    if not names and annotation is None:
        return {}
    if annotation is None and len(names) > 1:
        notes.append(
            f"tiles are annotated as {', '.join(names)}: give annotation={names[0]} or "
            "another to measure how well attention finds them"
        )
        return {}
    notes += explain_clashes("annotation", names)
    name = annotation or names[0]
    if name not in names:
        notes.append(
            f"annotation: no tile of these slides is annotated as {name!r}; have "
            f"{', '.join(names) or 'none'}"
        )
        return {}
    positive = head.classes[1] if len(head.classes) == 2 else None
    if name in head.classes:
        positive = name
    paths = [shard_path(out, bag.name) for bag in bags]
    try:
        found = localisation.localise(paths, directory, name, positive)
    except InputError as error:
        notes.append(f"scores are not compared with annotated tiles: {error}")
        return {}
    num = len({slide for per_slide in found.values() for slide in per_slide})
    notes.append(
        f"..._auroc_<um/px>: against tiles annotated as {name!r}, within each of {num} "
        "slides that hold both kinds"
    )
    return localisation.summarise(found, patients)
