"""What Tan 2023's study reads: cohort, folds, embeddings, annotations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mshisto_ray.config import InputError
from mshisto_ray.evaluation.localisation import annotation_names
from mshisto_ray.learning.given_folds import TEST, GivenFolds, read_given_folds
from mshisto_ray.mil.input.annotated_area import fingerprint
from mshisto_ray.store.cohort import Cohort, read_cohort
from mshisto_ray.store.embeddings import EmbeddingDirectory
from mshisto_ray.store.features import count_tiles
from mshisto_ray.store.learned_labels import learned_note
from mshisto_ray.store.manifest import recipe_digest
from mshisto_ray.store.tiles import TileDirectory
from mshisto_ray.studies._tan2023_table import ROWS, TableRow, levels_of

FOLD = "fold"


class TanCell(NamedTuple):
    """A row at a level (scales, coarsest first); ``fold``: of its encoders, if any."""

    row: TableRow
    scales: tuple[float, ...]
    fold: int | None


class TanData:
    """The cohort, folds, embeddings and annotations of the study, checked.

    Attributes:
        cohort: its file.
        cells: of the tables, those that have embeddings.
        levels: scales of each cell of a row, by the row's name.
        tiles: with annotations, if an area is wanted.
    """

    def __init__(self, data: Path, settings: Mapping[str, Any]):
        self.cohort = data / "cohort.csv"
        if not self.cohort.is_file():
            raise InputError(f"data: no cohort.csv in {data}")
        self._data, self._settings = data, settings
        self.levels = levels_of(settings)
        cohort = read_cohort(self.cohort, check_files=False)
        labels = cohort.column(settings["label"])
        # Not the file's digest: it holds the paths of one machine.
        rows = [(r.slide_id, r.patient_id, labels[r.slide_id]) for r in cohort.rows]
        labelled = [row for row in rows if row[2] is not None]
        identity: dict[str, Any] = {"rows": rows}
        self._folds = None if settings["split"] == "drawn" else _folds(cohort, labelled)
        if self._folds:
            identity["folds"] = self._folds.index.tolist()
        if settings["split"] == "per_fold" and self._folds and self._folds.is_split:
            raise InputError(
                "study.split: per_fold takes numbered folds in the column fold; for "
                "train and test give split=given"
            )
        self._labels = recipe_digest(identity)
        self.tiles = self._open_tiles()
        self._area = self._find_area([row.slide_id for row in cohort.rows])
        self.cells = [cell for cell in self._all_cells() if self.folders(cell)]
        if not self.cells:
            raise InputError(
                f"data: no embeddings in {data} for these rows and levels: give "
                "imagenet/ (one encoder that was not trained here), scale_<mpp>/ (one "
                "encoder a scale) or shared/, with study.split=per_fold in fold_<fold>/"
            )
        self._check_slides([slide for slide, _, _ in labelled])
        self._check_encoders([patient for _, patient, _ in labelled])

    def _find_area(self, slides: Sequence[str]) -> dict[str, str]:
        """The fingerprint of the annotated area, if one is wanted."""
        if not self.tiles:
            return {}
        name, least = self._settings["annotation"], self._settings["min_annotated"]
        have = annotation_names(self.tiles, slides)
        if name not in have:
            raise InputError(
                f"study.annotation: no tile is annotated as {name!r}; have "
                f"{', '.join(have) or 'none'}"
            )
        return {"area": fingerprint(self.tiles, slides, name, least)}

    def _all_cells(self) -> list[TanCell]:
        folds: Sequence[int | None] = [None]
        if self._settings["split"] == "per_fold" and self._folds:
            folds = self._folds.numbers
        return [
            TanCell(row, scales, fold)
            for row in ROWS
            for scales in self.levels.get(row.name, [])
            for fold in folds
        ]

    def _check_slides(self, labelled: Sequence[str]) -> None:
        """Raise InputError unless all rows, which are compared, have equal slides."""
        without: dict[str, str] = {}
        used = {
            (path, mpp)
            for cell in self.cells
            for path, mpp in zip(self.folders(cell), cell.scales, strict=True)
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

    def _check_encoders(self, patients: Sequence[str]) -> None:
        """Raise InputError where an encoder learned labels of patients to be tested."""
        for cell in self.cells:
            tested = np.array(patients)[self._is_tested(cell.fold, len(patients))]
            for path in dict.fromkeys(self.folders(cell)):
                note = learned_note(EmbeddingDirectory(path), tested.tolist())
                if note:
                    raise InputError(
                        f"data: {note}: pretrain without them, and give study.split="
                        "given (one encoder of the training patients) or per_fold (an "
                        "encoder a fold)"
                    )

    def _is_tested(self, fold: int | None, num: int) -> np.ndarray:
        """Which of the labelled slides some model of a cell is tested on, bool [N]."""
        if self._folds and self._folds.is_split:
            return self._folds.index == TEST
        if self._folds and fold is not None:
            return self._folds.index == self._folds.numbers.index(fold)
        return np.ones(num, bool)

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

    def folders(self, cell: TanCell) -> list[Path]:
        """Embeddings of each scale; none where one is absent."""
        own = self._data if cell.fold is None else self._data / f"fold_{cell.fold}"
        paths = [own / cell.row.folder.format(mpp=mpp) for mpp in cell.scales]
        return paths if all(path.is_dir() for path in paths) else []

    def num_models(self, cell: TanCell) -> int:
        """Fold models of a unit."""
        if not self._folds:
            return self._settings["folds"]
        one = self._folds.is_split or cell.fold is not None
        return 1 if one else len(self._folds.numbers)

    def fingerprint(self, cell: TanCell) -> dict[str, Any]:
        """What a unit's result depends on, beside its settings."""
        digests = [EmbeddingDirectory(path).digest for path in self.folders(cell)]
        own = {} if cell.fold is None else {"fold": cell.fold}
        return {"embeddings": digests, "labels": self._labels, **self._area, **own}


def _folds(cohort: Cohort, rows: Sequence[tuple[str, str, str | None]]) -> GivenFolds:
    """The folds of the labelled slides (slide, patient, label)."""
    if FOLD not in cohort.column_names:
        raise InputError(
            "study.split: given folds are wanted, and cohort.csv has no column fold: "
            "add one, or give split=drawn"
        )
    given = cohort.column(FOLD)
    return read_given_folds([given[s] for s, _, _ in rows], [p for _, p, _ in rows])
