"""Tan 2023: one scale against several, with and without multi-scale attention.

On whole slides, and on their annotated area at inference where ``tiles`` record it.
"""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from pydantic import Field

from mshisto_ray import config as configs
from mshisto_ray.config import InputError
from mshisto_ray.learning.predictions import Predictions
from mshisto_ray.mil import experiment
from mshisto_ray.mil.experiment import ExperimentConfig
from mshisto_ray.mil.fit.cross_validation import (
    CrossValidation,
    cross_validate,
    predict_tests,
)
from mshisto_ray.mil.fit.trained import trained_share
from mshisto_ray.mil.input.annotated_area import restrict
from mshisto_ray.mil.input.bags import Bags
from mshisto_ray.store.embeddings import EmbeddingDirectory
from mshisto_ray.studies import _study
from mshisto_ray.studies._study import StudyUnit, UnitResult
from mshisto_ray.studies._tan2023_cost import core_hours, encoder_parameters
from mshisto_ray.studies._tan2023_data import FOLD, TanCell, TanData
from mshisto_ray.studies._tan2023_table import (
    ALL_ROWS,
    CROSS_SCALE,
    ENCODER_SIZE,
    TRAINED,
    Row,
    render,
    unit_name,
)


class TanStudy:
    """A unit is a row, a level and a repeat; with encoders per fold a fold, too."""

    def __init__(self, data: TanData, settings: Mapping[str, Any]):
        self._data, self._settings = data, settings

    def units(self) -> list[StudyUnit]:
        """All units, repeat by repeat."""
        return [
            StudyUnit(
                unit_name(cell.row, cell.scales, repeat, cell.fold),
                self._training(cell, repeat) | self._data.fingerprint(cell),
                functools.partial(self._run, cell, repeat),
                self._core_hours(cell),
            )
            for repeat in range(self._settings["repeats"])
            for cell in self._data.cells
        ]

    def _core_hours(self, cell: TanCell) -> float:
        directories = [EmbeddingDirectory(path) for path in self._data.folders(cell)]
        attends = cell.row.combine["name"] == CROSS_SCALE
        num = self._data.num_models(cell)
        return core_hours(directories, cell.scales, self._settings, attends, num)

    def _run(self, cell: TanCell, repeat: int) -> UnitResult:
        folders = self._data.folders(cell)
        device, device_name = _study.fast_device()
        raw: dict[str, Any] = {
            "embeddings": list(map(str, folders)) if folders[1:] else str(folders[0]),
            "cohort": str(self._data.cohort),
            **_study.constant_rate(self._training(cell, repeat)),
        }
        with tempfile.TemporaryDirectory(prefix="mshisto-") as folder:
            raw["runtime"] = {"cache": {"dir": folder}}
            config = configs.validate(ExperimentConfig, raw)
            bags, splits = experiment.load(config)
            if cell.fold is not None:
                splits = [split for split in splits if split.fold == cell.fold]
            result = cross_validate(bags, splits, config, device)
            directories = [EmbeddingDirectory(path) for path in config.directories]
            area = self._test_area(bags, result, directories, config, device)
        extras = {
            ENCODER_SIZE: encoder_parameters(directories),
            TRAINED: trained_share(result.models, bags.kind),
        }
        return UnitResult(result.test, extras, area, device_name)

    def _test_area(
        self,
        bags: Bags,
        result: CrossValidation,
        directories: Sequence[EmbeddingDirectory],
        config: ExperimentConfig,
        device: torch.device,
    ) -> Predictions | None:
        """Predictions of the annotated area; None where no test slide has any."""
        tiles = self._data.tiles
        if not tiles:
            return None
        name, least = self._settings["annotation"], self._settings["min_annotated"]
        part = restrict(bags, directories, tiles, name, least)
        tested = np.concatenate([split.test for split in result.splits])
        if not (part.sizes[tested] > 0).any():
            return None
        return predict_tests(result, part, config, device)

    def _training(self, cell: TanCell, repeat: int) -> dict[str, Any]:
        """All settings of a unit except the paths of its data."""
        given, scales = self._settings, cell.scales
        single, combine = len(scales) == 1, dict(cell.row.combine)
        if combine["name"] == CROSS_SCALE:
            combine |= {key: given[key] for key in ("width", "heads", "head_dim")}
        # Never the cohort's own folds unless wanted: every repeat would share them.
        column = None if given["split"] == "drawn" else FOLD
        # Only where it is set: recipes of units made before are without it.
        order = {"together": True} if given["together"] else {}
        reduced = given["components"] and {"name": "pca", "dim": given["components"]}
        return {
            "scale" if single else "scales": scales[0] if single else list(scales),
            "target": {"column": given["label"]},
            "combine": combine,
            "vote": {"bags": given["bags"], "size": given["bag_size"], "seed": repeat,
                     **order},
            "split": {"folds": given["folds"], "validation": 0, "seed": repeat,
                      "column": column},
            "pooling": {"name": "embedding_mean", "hidden": [512, 512]},
            "hidden": [],
            "dropout": 0,
            "optimiser": {"name": given["optimiser"], "lr": given["lr"],
                          "weight_decay": 0},
            "epochs": given["epochs"],
            "batch_size": given["bags"] * given["slides_per_step"],
            "early_stopping": None,
            "seed": repeat,
            **({"reduction": reduced} if reduced else {}),
        }  # fmt: skip

    def table(self, done: Mapping[str, UnitResult]) -> str:
        """The paper's two tables, accuracy; AUROC below each; an area a table."""
        there: dict[tuple[str, tuple[float, ...]], list[int | None]] = {}
        for cell in self._data.cells:
            there.setdefault((cell.row.name, cell.scales), []).append(cell.fold)
        levels, has_area = self._data.levels, bool(self._data.tiles)
        return render(self._settings, levels, there, has_area, done)


def build(
    data: Path,
    *,
    label: str = "label",
    scales: tuple[float, ...] = (0.5, 1.0, 2.0),
    rows: tuple[Row, ...] = ALL_ROWS,
    levels: tuple[Annotated[int, Field(ge=0)], ...] | None = None,
    split: Literal["drawn", "given", "per_fold"] = "drawn",
    repeats: Annotated[int, Field(ge=1)] = 10,
    folds: Annotated[int, Field(ge=2)] = 5,
    epochs: Annotated[int, Field(ge=1)] = 20,
    optimiser: Literal["sgd", "adam"] = "sgd",
    lr: Annotated[float, Field(gt=0)] = 0.01,
    components: Annotated[int, Field(ge=1)] | None = None,
    bags: Annotated[int, Field(ge=1)] = 50,
    bag_size: Annotated[int, Field(ge=1)] = 100,
    together: bool = False,
    slides_per_step: Annotated[int, Field(ge=1)] = 1,
    width: Annotated[int, Field(ge=1)] = 2048,
    heads: Annotated[int, Field(ge=1)] = 4,
    head_dim: Annotated[int, Field(ge=1)] = 128,
    annotation: str | None = None,
    min_annotated: Annotated[float, Field(gt=0, le=1)] = 0.5,
) -> _study.Study:
    """``label``: column of the cohort; ``scales``: finest (level 0) first.

    ``rows``: of the tables; ``levels``: the finest of each cell (0: Level 0, and Level
    (1+0) of two scales); null: all. ``split``: folds drawn anew in each repeat; given
    by the cohort's column ``fold``; or likewise with encoders that learned without the
    fold's test patients, in ``fold_<fold>/`` of the data. ``bags`` of ``bag_size``
    tiles: of each slide; ``together``: a step holds those of one slide, whose tiles
    are combined once for all of them; else those of any. ``slides_per_step``: as many
    bags as these have. ``components``: principal components of the training slides'
    tiles that a head learns from; null: the embeddings as they are. ``width``,
    ``heads``, ``head_dim``: of multi-scale attention. ``annotation``: class of
    annotation that outlines the area of a second table, in the tiles directory
    ``tiles`` of the data; null: whole slides alone. ``min_annotated``: least share of
    a tile inside it.
    """
    if list(scales) != sorted(set(scales)):
        raise InputError(
            f"study.scales: {list(scales)} are not in rising order: level 0 is the "
            "finest, as [0.5, 1.0, 2.0]"
        )
    if levels is not None and not set(levels) <= set(range(len(scales))):
        raise InputError(
            f"study.levels: {list(levels)} are not all of 0 to {len(scales) - 1}, the "
            "levels of study.scales"
        )
    settings = {
        "label": label, "scales": scales, "rows": rows, "levels": levels,
        "split": split, "repeats": repeats, "folds": folds, "epochs": epochs,
        "optimiser": optimiser, "lr": lr, "components": components, "bags": bags,
        "bag_size": bag_size, "together": together, "slides_per_step": slides_per_step,
        "width": width, "heads": heads, "head_dim": head_dim, "annotation": annotation,
        "min_annotated": min_annotated,
    }  # fmt: skip
    return TanStudy(TanData(data, settings), settings)
