"""Ilse 2018, breast cancer: H&E images, malignant or benign, as bags of patches."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import Field

from mshisto_ray.components import Part
from mshisto_ray.config import InputError
from mshisto_ray.progress import say
from mshisto_ray.slides import SlideError, open_slide
from mshisto_ray.store.cohort import Cohort, CohortSlide, read_cohort
from mshisto_ray.store.columns import ColumnsConfig
from mshisto_ray.store.same_slides import explain_copies
from mshisto_ray.studies import _study
from mshisto_ray.studies._image_bags import ImageBags, ImageTraining
from mshisto_ray.studies._image_study import ENCODERS, ImageSet, ImageStudy
from mshisto_ray.studies._image_table import Protocol, TableNotes
from mshisto_ray.studies._nucleus_net import NucleusNet

TABLE = "cohort.csv"
_MOST_FOLDS = 10
# From memory of the paper's appendix, not confirmed: patches of 32 px without overlap,
# those with 75 % or more of white pixels left out; the paper does not define white.
PATCH_PX, _WHITE_SHARE, _WHITE = 32, 0.75, 220
_TRAINING = ImageTraining(lr=1e-4, weight_decay=5e-4, epochs=100, flips=True)
# The paper's slides; the cells of gated attention are scattered there, and put together
# by their order.
_PUBLISHED = {
    "instance_max": (".614 +- .020", ".585 +- .03", ".477 +- .087", ".506 +- .054",
                     ".612 +- .026"),
    "instance_mean": (".672 +- .026", ".672 +- .034", ".515 +- .056", ".577 +- .049",
                      ".719 +- .019"),
    "embedding_max": (".607 +- .015", ".558 +- .013", ".546 +- .070", ".543 +- .042",
                      ".650 +- .013"),
    "embedding_mean": (".741 +- .023", ".741 +- .023", ".654 +- .054", ".689 +- .034",
                       ".796 +- .012"),
    "attention": (".745 +- .018", ".718 +- .021", ".715 +- .046", ".712 +- .025",
                  ".775 +- .016"),
    "gated_attention": (".755 +- .016", ".728 +- .016", ".731 +- .042",
                        ".725 +- .023", ""),
}  # fmt: skip


def read_images(
    data: Path,
    column: str,
    classes: tuple[str, str],
    columns: ColumnsConfig | None = None,
) -> ImageSet:
    """Patches of the images that ``cohort.csv`` lists.

    Args:
        data: folder with ``cohort.csv``: ``path``, the label, and ``patient_id`` where
            images belong together (a patient, or a tissue microarray).
        column: with the label.
        classes: its two values, the positive one last.
        columns: names of the table's columns that are not the reserved ones.

    Raises:
        InputError: a table, label or image that cannot be used.
    """
    cohort = read_cohort(data / TABLE, columns=columns, section="study.columns")
    targets = _targets(cohort, column, classes)
    patches = _patches(cohort)
    sizes = [len(part) for part in patches]
    empty = [r.slide_id for r, n in zip(cohort.rows, sizes, strict=True) if n == 0]
    if empty:
        raise InputError(
            f"{cohort.path}: no patch of {PATCH_PX} px with tissue in "
            f"{', '.join(empty)}: leave them out of the table"
        )
    images, offsets = np.concatenate(patches), np.cumsum([0, *sizes])
    names = tuple(row.slide_id for row in cohort.rows)
    patients = tuple(row.patient_id for row in cohort.rows)
    digest = hashlib.sha256(repr((names, patients, classes)).encode())
    for array in (images, offsets, targets):
        digest.update(np.ascontiguousarray(array).tobytes())
    bags = ImageBags(images, np.zeros(len(images), bool), offsets, targets)
    return ImageSet(names, patients, classes, bags, digest.hexdigest())


def cut(pixels: np.ndarray) -> np.ndarray:
    """Patches uint8 [N, 32, 32, 3] of an image [H, W, 3], row by row, without white."""
    rows, cols = pixels.shape[0] // PATCH_PX, pixels.shape[1] // PATCH_PX
    whole = pixels[: rows * PATCH_PX, : cols * PATCH_PX]
    grid = whole.reshape(rows, PATCH_PX, cols, PATCH_PX, 3).swapaxes(1, 2)
    patches = grid.reshape(-1, PATCH_PX, PATCH_PX, 3)
    white = (patches >= _WHITE).all(3).mean((1, 2))
    return patches[white < _WHITE_SHARE]


def _patches(cohort: Cohort) -> list[np.ndarray]:
    """Those of each image; an InputError lists all that are unreadable or copies."""
    problems, found = [], []
    for row in cohort.rows:
        try:
            found.append(cut(_pixels(row)))
        except SlideError as error:
            # A key of other jobs, which skip what they cannot read.
            text = str(error).replace(" and run with runtime.retry_failures=true", "")
            problems.append(f"{row.slide_id}: {text}")
    if not problems:
        digests = [hashlib.sha256(patches.tobytes()).digest() for patches in found]
        patients = {row.slide_id: row.patient_id for row in cohort.rows}
        problems, notes = explain_copies(
            dict(zip(patients, digests, strict=True)), patients
        )
        for note in notes:
            say(f"ilse2018_breast: {note}")
    if problems:
        raise InputError("\n".join(f"{cohort.path}: {line}" for line in problems))
    return found


def _pixels(row: CohortSlide) -> np.ndarray:
    slide = open_slide(row.path)
    try:
        level = slide.levels[0]
        return slide.read(0, 0, 0, level.width, level.height)
    finally:
        slide.close()


def _targets(cohort: Cohort, column: str, classes: tuple[str, str]) -> np.ndarray:
    values = cohort.column(column)
    without = [slide_id for slide_id, label in values.items() if label is None]
    if without:
        raise InputError(
            f"{cohort.path}: no {column} in {', '.join(without)}: give one, or leave "
            "these images out"
        )
    labels = list(values.values())
    found = sorted(map(str, set(labels)))
    if found != sorted(classes):
        raise InputError(
            f"{cohort.path}: column {column!r} holds {', '.join(found)}; wanted are "
            f"study.classes, the positive one last: {', '.join(classes)}"
        )
    return np.array([classes.index(str(label)) for label in labels], np.int64)


def _num_folds(images: ImageSet, wanted: int | None) -> int:
    """As wanted; null: ten as in the paper, or as many as patients of the rarer class.

    Raises:
        InputError: a class of one patient, or of fewer than the wanted folds.
    """
    pairs = zip(images.patients, images.bags.targets.tolist(), strict=True)
    counts = np.bincount([target for _, target in set(pairs)], minlength=2)
    rare, most = images.classes[int(counts.argmin())], int(counts.min())
    if most < (wanted or 2):
        raise InputError(
            f"study.folds: {wanted or 2} folds need as many patients with {rare!r} "
            f"images, and there are {most}: folds keep the images of a patient (or "
            "array) together"
        )
    return wanted or min(_MOST_FOLDS, most)


def build(
    data: Path,
    *,
    column: str = "label",
    classes: tuple[str, str] = ("benign", "malignant"),
    poolings: tuple[str, ...] = tuple(_PUBLISHED),
    epochs: Annotated[int, Field(ge=1)] = _TRAINING.epochs,
    folds: Annotated[int, Field(ge=2)] | None = None,
    repeats: Annotated[int, Field(ge=1)] = 5,
    validation: Annotated[float, Field(ge=0, le=0.5)] = 0.1,
    colour: Annotated[float, Field(ge=0, le=0.5)] = 0.0,
    encoder: Part | None = None,
    columns: ColumnsConfig | None = None,
) -> _study.Study:
    """``column``, ``classes``: of ``cohort.csv``, the positive class last.

    ``columns``: the table's own names of ``path``, ``slide_id``, ``patient_id``;
    ``poolings``: those with the network; ``epochs``, ``repeats``: of its training;
    ``folds``: null for ten, or as many as patients allow; ``validation``: share of the
    training bags whose loss chooses the epoch (0: the last); ``colour``: stain jitter,
    0 for none; ``encoder``: gives frozen features for all poolings, beside colour
    statistics.
    """
    # A part or config within a part comes as plain data.
    named = ColumnsConfig.model_validate(columns or {})
    part = Part.model_validate(encoder) if encoder else None
    if part:
        part = _study.check_part(ENCODERS, part, "study.encoder")
    for name in poolings:
        _study.check_pooling(name)
    images = read_images(data, column, (classes[0], classes[1]), named)
    training = dataclasses.replace(_TRAINING, epochs=epochs, colour=colour)
    protocol = Protocol(_num_folds(images, folds), repeats, validation, training)
    grouped = len(set(images.patients)) < len(images.names)
    unit = "patients (or arrays), folds by patient" if grouped else "images, by image"
    network = functools.partial(NucleusNet, PATCH_PX)
    page = TableNotes(_PUBLISHED, unit)
    return ImageStudy(images, network, poolings, protocol, part, page)
