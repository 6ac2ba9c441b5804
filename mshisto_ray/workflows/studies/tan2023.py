"""Tan 2023: one scale against several, with and without multi-scale attention.

On whole slides, and on their annotated area at inference where ``tiles`` say it.
"""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from mshisto_ray import config as configs
from mshisto_ray.config import InputError
from mshisto_ray.mil import experiment
from mshisto_ray.mil.annotated_area import fingerprint, restrict
from mshisto_ray.mil.cross_validation import cross_validate, predict_tests
from mshisto_ray.mil.experiment import ExperimentConfig
from mshisto_ray.mil.localisation import annotation_names
from mshisto_ray.store.cohort import read_cohort
from mshisto_ray.store.embeddings import EmbeddingDirectory
from mshisto_ray.store.manifest import recipe_digest
from mshisto_ray.store.tiles import TileDirectory
from mshisto_ray.workflows.studies import _study
from mshisto_ray.workflows.studies._study import Unit, UnitResult


@dataclass(frozen=True)
class _Row:
    """A row of the paper's tables.

    ``folder``: of embeddings, where ``{mpp}`` stands for the scale.
    """

    name: str
    folder: str
    combine: Mapping[str, Any]


_SINGLE = _Row("single scale", "imagenet", {"name": "single"})
_MSA = {"name": "cross_scale", "width": 2048, "heads": 4, "head_dim": 128}
_SEVERAL = (
    _Row("conventional MS", "scale_{mpp}", {"name": "concat"}),
    _Row("MS + CL", "shared", {"name": "concat"}),
    _Row("MS + CL + MSA", "shared", _MSA),
)
# Accuracy by level, on whole slides and on the annotated tumour.
_PUBLISHED = {
    "single scale": ((".6364", ".5879", ".5669"), (".7250", ".7441", ".7086")),
    "conventional MS": ((".6081", ".5915"), (".7398", ".7200")),
    "MS + CL": ((".5882", ".6250"), (".7331", ".7026")),
    "MS + CL + MSA": ((".6415", ".5993"), (".7715", ".7166")),
}


class TanStudy:
    """A unit is a row, a level (or a pair of levels) and a repeat."""

    def __init__(self, data: Path, settings: Mapping[str, Any]):
        if not (data / "cohort.csv").is_file():
            raise InputError(f"data: no cohort.csv in {data}")
        self._data, self._settings = data, settings
        scales: Sequence[float] = settings["scales"]
        pairs = list(zip(scales[1:], scales[:-1], strict=True))
        self._levels: dict[str, list[tuple[float, ...]]] = {
            _SINGLE.name: [(mpp,) for mpp in scales],
            **{row.name: list(pairs) for row in _SEVERAL},
        }
        cohort = read_cohort(data / "cohort.csv", check_files=False)
        labels = cohort.column(settings["label"])
        # Not the file: it holds the paths of one machine.
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
            for row in (_SINGLE, *_SEVERAL)
            if any(self._folders(row, level) for level in self._levels[row.name])
        ]
        if not self._rows:
            raise InputError(
                f"data: no embeddings in {data}: give imagenet/ (one encoder that was "
                "not trained here), scale_<mpp>/ (one encoder a scale) or shared/"
            )

    def _open_tiles(self) -> TileDirectory | None:
        if self._settings["annotation"] is None:
            return None
        path = self._data / "tiles"
        if not path.is_dir():
            raise InputError(
                f"data: no tiles in {self._data}, which study.annotation needs to know "
                "the annotated area; give the tiles that were embedded, or null"
            )
        return TileDirectory(path)

    def _folders(self, row: _Row, scales: Sequence[float]) -> list[Path]:
        """Embeddings of each scale; none where one is absent."""
        paths = [self._data / row.folder.format(mpp=mpp) for mpp in scales]
        return paths if all(path.is_dir() for path in paths) else []

    def units(self) -> list[Unit]:
        """Repeat by repeat."""
        return [
            Unit(
                _key(row, scales, repeat),
                self._training(row, scales, repeat) | self._fingerprint(row, scales),
                functools.partial(self._run, row, scales, repeat),
            )
            for repeat in range(self._settings["repeats"])
            for row in self._rows
            for scales in self._levels[row.name]
            if self._folders(row, scales)
        ]

    def _fingerprint(self, row: _Row, scales: Sequence[float]) -> dict[str, Any]:
        digests = [EmbeddingDirectory(p).digest for p in self._folders(row, scales)]
        return {"embeddings": digests, "labels": self._labels, **self._area}

    def _run(self, row: _Row, scales: tuple[float, ...], repeat: int) -> UnitResult:
        folders = self._folders(row, scales)
        device, device_name = _study.fast_device()
        raw: dict[str, Any] = {
            "embeddings": list(map(str, folders)) if folders[1:] else str(folders[0]),
            "cohort": str(self._data / "cohort.csv"),
            **self._training(row, scales, repeat),
        }
        with tempfile.TemporaryDirectory(prefix="mshisto-") as folder:
            raw["cache"] = {"dir": folder}
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
        self, row: _Row, scales: Sequence[float], repeat: int
    ) -> dict[str, Any]:
        """All of a unit's settings but where its data are."""
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
        scales: Sequence[float] = self._settings["scales"]
        single = [f"Level {i}" for i in range(len(scales))]
        several = [f"Level ({i + 1}+{i})" for i in range(len(scales) - 1)]
        areas = ("whole slides", "annotated area") if self._tiles else ("whole slides",)
        parts = []
        for header, rows in ((single, [_SINGLE]), (several, _SEVERAL)):
            for place, area in enumerate(areas):
                lines = []
                for row in rows:
                    for metric in ("accuracy", "auroc"):
                        cells = [self._cell(row, s, metric, done, place == 1)
                                 for s in self._levels[row.name]]  # fmt: skip
                        lines.append([f"{row.name}, {metric}", *cells])
                    published = [*_PUBLISHED[row.name][place], *[""] * len(header)]
                    cells = published[: len(header)]
                    lines.append([f"{row.name}, published accuracy", *cells])
                parts.append(_study.markdown([area, *header], lines))
        return "\n".join([*parts, self._told()])

    def _told(self) -> str:
        given = self._settings
        area = "Annotated area: the same models on test slides' tiles of "
        area += f"{given['annotation']!r} (at least {given['min_annotated']:g} of each "
        area += "inside it), slides that have any. "
        return (
            "Published: intrahepatic cholangiocarcinoma, 332 slides, not these. Level "
            f"0 is {given['scales'][0]:g} um/px. 50 random bags of 100 tiles of each "
            "slide, majority vote; mean, two ReLU layers of 512, softmax; SGD, lr "
            f"{given['lr']:g}, momentum 0.9, {given['epochs']} epochs; "
            f"{given['folds']} folds by patient, {given['repeats']} repeats, 95 % "
            f"bootstrap over patients. {area if self._tiles else ''}An encoder "
            "pretrained with these slides' labels has seen what it is tested on: "
            "scale_* and shared should come from other patients.\n"
        )

    def _cell(
        self,
        row: _Row,
        scales: tuple[float, ...],
        metric: str,
        done: Mapping[str, UnitResult],
        of_area: bool,
    ) -> str:
        num = self._settings["repeats"]
        keys = [_key(row, scales, repeat) for repeat in range(num)]
        found = [done[key] for key in keys if key in done]
        if not found:
            return "no embeddings" if not self._folders(row, scales) else ""
        if of_area:
            found = [UnitResult(unit.area, {}) for unit in found if unit.area]
        note = "" if len(found) == num else f" [{len(found)}]"
        return _study.cell(_study.measure(found)[metric]) + note


def _key(row: _Row, scales: tuple[float, ...], repeat: int) -> str:
    name = row.name.lower().replace(" + ", "-").replace(" ", "-")
    return f"{name}-{'+'.join(f'{mpp:g}' for mpp in scales)}-{repeat}"


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
            f"study.scales: {list(scales)} do not rise: level 0 is the finest, as "
            "[0.5, 1.0, 2.0]"
        )
    settings = {"label": label, "scales": scales, "repeats": repeats, "lr": lr}
    settings |= {"folds": folds, "epochs": epochs, "annotation": annotation}
    settings["min_annotated"] = min_annotated
    return TanStudy(data, settings)
