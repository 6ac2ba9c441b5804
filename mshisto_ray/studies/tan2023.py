"""Tan 2023: one scale against several, with and without multi-scale attention.

On whole slides, and on their annotated area at inference where ``tiles`` record it.
"""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from mshisto_ray import config as configs
from mshisto_ray.config import InputError
from mshisto_ray.evaluation.localisation import annotation_names
from mshisto_ray.mil import experiment
from mshisto_ray.mil.experiment import ExperimentConfig
from mshisto_ray.mil.fit.cross_validation import cross_validate, predict_tests
from mshisto_ray.mil.input.annotated_area import fingerprint, restrict
from mshisto_ray.store.cohort import read_cohort
from mshisto_ray.store.embeddings import EmbeddingDirectory
from mshisto_ray.store.features import count_tiles
from mshisto_ray.store.manifest import recipe_digest
from mshisto_ray.store.tiles import TileDirectory
from mshisto_ray.studies import _study
from mshisto_ray.studies._study import StudyUnit, UnitResult
from mshisto_ray.studies._tan2023_table import (
    SEVERAL,
    SINGLE,
    TableRow,
    render,
    unit_name,
)


class TanStudy:
    """A unit is a row, a level (or a pair of levels) and a repeat."""

    def __init__(self, data: Path, settings: Mapping[str, Any]):
        if not (data / "cohort.csv").is_file():
            raise InputError(f"data: no cohort.csv in {data}")
        self._data, self._settings = data, settings
        scales: Sequence[float] = settings["scales"]
        pairs = list(zip(scales[1:], scales[:-1], strict=True))
        self._levels: dict[str, list[tuple[float, ...]]] = {
            SINGLE.name: [(mpp,) for mpp in scales],
            **{row.name: list(pairs) for row in SEVERAL},
        }
        cohort = read_cohort(data / "cohort.csv", check_files=False)
        labels = cohort.column(settings["label"])
        # Not the file's digest: it holds the paths of one machine.
        rows = [(r.slide_id, r.patient_id, labels[r.slide_id]) for r in cohort.rows]
        self._labels = recipe_digest({"rows": rows})
        self._tiles, self._area = self._open_tiles(), {}
        if self._tiles:
            ids, name = [row.slide_id for row in cohort.rows], settings["annotation"]
            have = annotation_names(self._tiles, ids)
            if name not in have:
                raise InputError(
                    f"study.annotation: no tile is annotated as {name!r}; have "
                    f"{', '.join(have) or 'none'}"
                )
            least = settings["min_annotated"]
            self._area = {"area": fingerprint(self._tiles, ids, name, least)}
        self._rows = [
            row
            for row in (SINGLE, *SEVERAL)
            if any(self._folders(row, level) for level in self._levels[row.name])
        ]
        if not self._rows:
            raise InputError(
                f"data: no embeddings in {data}: give imagenet/ (one encoder that was "
                "not trained here), scale_<mpp>/ (one encoder a scale) or shared/"
            )

        self._check_slides([slide for slide, _, label in rows if label is not None])

    def _check_slides(self, labelled: Sequence[str]) -> None:
        """Raise InputError unless all rows, which are compared, have equal slides."""
        without: dict[str, str] = {}
        used = {
            (path, mpp)
            for row in self._rows
            for scales in self._levels[row.name]
            for path, mpp in zip(self._folders(row, scales), scales, strict=False)
        }
        for path, mpp in sorted(used):
            directory = EmbeddingDirectory(path)
            counts = count_tiles(directory, mpp)
            have = {s for s, n in zip(directory.slide_ids, counts, strict=True) if n}
            for slide in sorted(set(labelled) - have):
                without.setdefault(slide, f"{slide} in {path.name} at {mpp:g} um/px")
        if without:
            shown = "; ".join([*without.values()][:3]) + ("; ..." * (len(without) > 3))
            raise InputError(
                f"data: {len(without)} labelled slides have no tiles in some of the "
                f"embeddings ({shown}): rows of the table would be of other slides; "
                "embed them, or take their labels out of cohort.csv"
            )

    def _open_tiles(self) -> TileDirectory | None:
        if self._settings["annotation"] is None:
            return None
        path = self._data / "tiles"
        if not path.is_dir():
            raise InputError(
                f"data: no tiles in {self._data}, which study.annotation needs for "
                "the annotated area; give the tiles that were embedded, or null"
            )
        return TileDirectory(path)

    def _folders(self, row: TableRow, scales: Sequence[float]) -> list[Path]:
        """Embeddings of each scale; none where one is absent."""
        paths = [self._data / row.folder.format(mpp=mpp) for mpp in scales]
        return paths if all(path.is_dir() for path in paths) else []

    def units(self) -> list[StudyUnit]:
        """All units, repeat by repeat."""
        return [
            StudyUnit(
                unit_name(row, scales, repeat),
                self._training(row, scales, repeat) | self._fingerprint(row, scales),
                functools.partial(self._run, row, scales, repeat),
            )
            for repeat in range(self._settings["repeats"])
            for row in self._rows
            for scales in self._levels[row.name]
            if self._folders(row, scales)
        ]

    def _fingerprint(self, row: TableRow, scales: Sequence[float]) -> dict[str, Any]:
        digests = [EmbeddingDirectory(p).digest for p in self._folders(row, scales)]
        return {"embeddings": digests, "labels": self._labels, **self._area}

    def _run(self, row: TableRow, scales: tuple[float, ...], repeat: int) -> UnitResult:
        folders = self._folders(row, scales)
        device, device_name = _study.fast_device()
        raw: dict[str, Any] = {
            "embeddings": list(map(str, folders)) if folders[1:] else str(folders[0]),
            "cohort": str(self._data / "cohort.csv"),
            **_study.constant_rate(self._training(row, scales, repeat)),
        }
        with tempfile.TemporaryDirectory(prefix="mshisto-") as folder:
            raw["runtime"] = {"cache": {"dir": folder}}
            config = configs.validate(ExperimentConfig, raw)
            bags, splits = experiment.load(config)
            result = cross_validate(bags, splits, config, device)
            area = None
            if self._tiles:
                directories = [EmbeddingDirectory(path) for path in config.directories]
                name = self._settings["annotation"]
                least = self._settings["min_annotated"]
                part = restrict(bags, directories, self._tiles, name, least)
                area = predict_tests(result, part, config, device)
        return UnitResult(result.test, {}, area, device_name)

    def _training(
        self, row: TableRow, scales: Sequence[float], repeat: int
    ) -> dict[str, Any]:
        """All settings of a unit except the paths of its data."""
        single, given = len(scales) == 1, self._settings
        return {
            "scale" if single else "scales": scales[0] if single else list(scales),
            "target": {"column": given["label"]},
            "combine": dict(row.combine),
            "vote": {"bags": 50, "size": 100, "seed": repeat},
            # Never the cohort's own folds, which every repeat would share.
            "split": {"folds": given["folds"], "validation": 0, "seed": repeat,
                      "column": None},
            "pooling": {"name": "embedding_mean", "hidden": [512, 512]},
            "hidden": [],
            "dropout": 0,
            "optimiser": {"name": "sgd", "lr": given["lr"], "weight_decay": 0},
            "epochs": given["epochs"],
            "batch_size": 50,
            "early_stopping": None,
            "seed": repeat,
        }  # fmt: skip

    def table(self, done: Mapping[str, UnitResult]) -> str:
        """The paper's two tables, accuracy; AUROC below each; an area a table."""
        absent = {
            (row.name, scales)
            for row in (SINGLE, *SEVERAL)
            for scales in self._levels[row.name]
            if not self._folders(row, scales)
        }
        return render(self._settings, self._levels, absent, bool(self._tiles), done)


def build(
    data: Path,
    *,
    label: str = "label",
    scales: tuple[float, ...] = (0.5, 1.0, 2.0),
    repeats: Annotated[int, Field(ge=1)] = 10,
    folds: Annotated[int, Field(ge=2)] = 5,
    epochs: Annotated[int, Field(ge=1)] = 20,
    lr: Annotated[float, Field(gt=0)] = 0.01,
    annotation: str | None = None,
    min_annotated: Annotated[float, Field(gt=0, le=1)] = 0.5,
) -> _study.Study:
    """``label``: column of the cohort; ``scales``: finest (level 0) first.

    ``annotation``: class of annotation that outlines the area of a second table, in
    the tiles directory ``tiles`` of the data; null: whole slides alone.
    ``min_annotated``: least share of a tile inside it.
    """
    if list(scales) != sorted(set(scales)):
        raise InputError(
            f"study.scales: {list(scales)} are not in rising order: level 0 is the "
            "finest, as [0.5, 1.0, 2.0]"
        )
    settings = {"label": label, "scales": scales, "repeats": repeats, "lr": lr}
    settings |= {"folds": folds, "epochs": epochs, "annotation": annotation}
    settings["min_annotated"] = min_annotated
    return TanStudy(data, settings)
