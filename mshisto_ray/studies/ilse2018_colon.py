"""Ilse 2018, colon cancer: which H&E images hold epithelial nuclei."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import Field

from mshisto_ray.components import Part
from mshisto_ray.config import InputError
from mshisto_ray.studies import _study
from mshisto_ray.studies._image_bags import ImageBags, ImageTraining
from mshisto_ray.studies._image_study import ENCODERS, ImageSet, ImageStudy
from mshisto_ray.studies._image_table import Protocol, TableNotes
from mshisto_ray.studies._nucleus_net import NucleusNet

_FOLDS = 10
_CLASSES = ("no epithelium", "epithelium")
# From memory of the paper's appendix, as are the network's sizes: not confirmed.
_TRAINING = ImageTraining(lr=1e-4, weight_decay=5e-4, epochs=100, flips=True)
_PUBLISHED = {
    "instance_max": (".842 +- .021", ".866 +- .017", ".816 +- .031", ".839 +- .023",
                     ".914 +- .010"),
    "instance_mean": (".772 +- .012", ".821 +- .011", ".710 +- .031", ".759 +- .017",
                      ".866 +- .008"),
    "embedding_max": (".824 +- .015", ".884 +- .014", ".753 +- .020", ".813 +- .017",
                      ".918 +- .010"),
    "embedding_mean": (".860 +- .014", ".911 +- .011", ".804 +- .027", ".853 +- .016",
                       ".940 +- .010"),
    "attention": (".904 +- .011", ".953 +- .014", ".855 +- .017", ".901 +- .011",
                  ".968 +- .009"),
    "gated_attention": (".898 +- .020", ".944 +- .016", ".851 +- .035",
                        ".893 +- .022", ".968 +- .010"),
}  # fmt: skip
_PAGE = TableNotes(
    _PUBLISHED,
    data="images, folds by image (the data do not tell patients)",
    truth="epithelium",
)


def read_images(data: Path) -> ImageSet:
    """The bags of ``colon_bags27.npz``.

    Raises:
        InputError: no such file in the folder.
    """
    file = data / "colon_bags27.npz"
    if not file.is_file():
        raise InputError(f"data: no colon_bags27.npz in {data}")
    content = np.load(file)
    names = tuple(content["name"].tolist())
    bags = ImageBags(
        content["patches"], content["inst_label"], content["offsets"],
        content["label"].astype(np.int64),
    )  # fmt: skip
    return ImageSet(names, names, _CLASSES, bags, _study.fingerprint(file))


def build(
    data: Path,
    *,
    poolings: tuple[str, ...] = ("attention", "gated_attention", "embedding_mean"),
    epochs: Annotated[int, Field(ge=1)] = _TRAINING.epochs,
    repeats: Annotated[int, Field(ge=1)] = 1,
    validation: Annotated[float, Field(ge=0, le=0.5)] = 0.0,
    colour: Annotated[float, Field(ge=0, le=0.5)] = 0.0,
    encoder: Part | None = None,
) -> _study.Study:
    """``poolings``: those with the network; ``epochs``, ``repeats``: of its training.

    ``validation``: share of the training bags whose loss chooses the epoch (0: the
    last); ``colour``: stain jitter, 0 for none; ``encoder``: gives frozen features for
    all poolings, beside colour statistics.
    """
    # A part within a part comes as plain data.
    part = Part.model_validate(encoder) if encoder else None
    if part:
        part = _study.check_part(ENCODERS, part, "study.encoder")
    for name in poolings:
        _study.check_pooling(name)
    training = dataclasses.replace(_TRAINING, epochs=epochs, colour=colour)
    protocol = Protocol(_FOLDS, repeats, validation, training)
    images = read_images(data)
    return ImageStudy(images, NucleusNet, poolings, protocol, part, _PAGE)
