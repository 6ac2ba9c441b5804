"""Gildenblat and Klaiman 2019: descriptor distances and retrieval of tumour tiles."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from mshisto_ray import config as configs
from mshisto_ray.config import InputError
from mshisto_ray.evaluation.encoder_scores import Score, chance, measure
from mshisto_ray.evaluation.labelled_tiles import LabelConfig, LabelledTiles
from mshisto_ray.evaluation.labelling import read_labelled_tiles
from mshisto_ray.evaluation.neighbours import Neighbours
from mshisto_ray.evaluation.plan import Plan, QuestionConfig, make_plan
from mshisto_ray.evaluation.tile_set import read_values
from mshisto_ray.learning.predictions import Predictions
from mshisto_ray.statistics.bootstrap import ClusterDraws, percentile_interval
from mshisto_ray.store.cohort import read_cohort
from mshisto_ray.store.embeddings import EmbeddingDirectory
from mshisto_ray.store.manifest import recipe_digest
from mshisto_ray.store.tiles import TileDirectory
from mshisto_ray.studies import _study
from mshisto_ray.studies._study import StudyUnit, UnitResult

# The paper does not say whether slides of a patient are in both halves of a pair.
_OTHERS = ("slide", "patient")
_PUBLISHED = {
    "ResNet-50 of ImageNet, published": ("1.38", "26%"),
    "instance discrimination, published": ("1.28", "21%"),
    "spatial, published": ("1.5", "34%"),
}
_MEASURED = ("addr_spatial", "addr_label", "auc_spatial")


class GildenblatStudy:
    """A unit is an encoder, and whether it may find tiles of the slide or patient."""

    def __init__(self, data: Path, settings: Mapping[str, Any]):
        if not (data / "tiles").is_dir():
            raise InputError(f"data: no tiles in {data}")
        self._settings, self._tiles = settings, TileDirectory(data / "tiles")
        folders = [data / "embeddings" / name for name in settings["encoders"]]
        absent = [folder for folder in folders if not folder.is_dir()]
        if absent:
            raise InputError(
                f"data: no embeddings in {absent[0]}: give one folder each of "
                "study.encoders, or name those that are there"
            )
        self._encoders = {path.name: EmbeddingDirectory(path) for path in folders}
        cohort = data / "cohort.csv"
        rows = read_cohort(cohort, check_files=False) if cohort.is_file() else None
        least = LabelConfig(min_annotated=settings["min_annotated"])
        mpp = self._tiles.choose_scale(settings["scale"])
        self._labelled: LabelledTiles = read_labelled_tiles(
            self._tiles, self._encoders, mpp, rows, least, None
        )

    def units(self) -> list[StudyUnit]:
        """All encoders, as the paper and by patient."""
        labelled = self._labelled
        tiles = labelled.tiles
        data = recipe_digest(
            {
                "slides": tiles.slide_ids,
                "patients": labelled.patient_ids,
                "tiles": [tiles.slide.tolist(), tiles.row.tolist(), tiles.col.tolist()],
                "labels": [labelled.classes, labelled.label.tolist()],
            }
        )
        return [
            StudyUnit(
                f"{name}-other_{other}s",
                {
                    "embeddings": directory.digest,
                    "data": data,
                    "questions": self._questions(other).model_dump(mode="json"),
                },
                functools.partial(self._run, name, other),
            )
            for name, directory in self._encoders.items()
            for other in _OTHERS
        ]

    def _questions(self, other: str) -> QuestionConfig:
        given = self._settings
        names = ("near_um", "far_um", "normalise", "seed")
        raw = {name: given[name] for name in names} | {"exclude": {"by": other}}
        return configs.validate(QuestionConfig, raw | {"queries": [given["tumour"]]})

    def _run(self, name: str, other: str) -> UnitResult:
        plan = make_plan(self._labelled, None, self._questions(other))
        values = read_values(self._encoders[name], self._labelled.tiles)
        scores, found = measure(values, None, plan, self._settings["normalise"])
        extras = {f"chance_{key}": value for key, value in chance(plan).items()}
        for key in _MEASURED:
            if key in scores:
                extras |= _numbers(key, scores[key])
        extras["tiles"] = float(len(values))
        return UnitResult(_retrieved(plan, found), extras)

    def table(self, done: Mapping[str, UnitResult]) -> str:
        """The paper's tables 1 and 2, with intervals, above the published values."""
        names = list(self._encoders)
        return render(names, done)


def build(
    data: Path,
    *,
    encoders: tuple[str, ...] = ("imagenet", "instance_discrimination", "spatial"),
    tumour: str = "tumor",
    scale: float | None = None,
    min_annotated: Annotated[float, Field(gt=0, le=1)] = 1.0,
    near_um: Annotated[float, Field(gt=0)] = 1742.0,
    far_um: Annotated[float, Field(gt=0)] = 9145.0,
    normalise: bool = True,
    seed: int = 0,
) -> _study.Study:
    """Compare encoders on annotated slides that none of them was trained on.

    ``encoders``: folders of ``embeddings`` in ``data``, beside ``tiles`` and, if there
    is one, ``cohort.csv``; the first is what others are compared with; ``tumour``:
    class of annotation that is queried, of tiles of which ``min_annotated`` lies
    inside; ``scale`` in um/px; ``near_um``, ``far_um``: of pairs; ``normalise``:
    distances between vectors of length 1.
    """
    settings = {
        "encoders": encoders, "tumour": tumour, "scale": scale,
        "min_annotated": min_annotated, "near_um": near_um, "far_um": far_um,
        "normalise": normalise, "seed": seed,
    }  # fmt: skip
    return GildenblatStudy(data, settings)


def render(names: list[str], done: Mapping[str, UnitResult]) -> str:
    """Both tables; cells of units that are not done are empty."""
    first, second = [], []
    for name in names:
        units = {other: done.get(f"{name}-other_{other}s") for other in _OTHERS}
        known = units["patient"] or units["slide"]
        cells = [_cell(known, key) for key in _MEASURED]
        first.append([name, *cells])
        second.append([name, *_retrieval(names[0], name, units, done)])
    for label, (ratio, share) in _PUBLISHED.items():
        first.append([label, ratio, "", ""])
        second.append([label, share, "", "", "", ""])
    one = _study.markdown(
        ["encoder", "ADDR, far against near", "ADDR, other class against own",
         "AUC, far against near"], first,
    )  # fmt: skip
    two = _study.markdown(
        ["encoder", "tumour found, other slides", "tumour found, other patients",
         "from the first", "by chance", "queries"], second,
    )  # fmt: skip
    return f"Table 1, distances of pairs\n{one}\nTable 2, retrieval of tumour\n{two}"


def _retrieved(plan: Plan, found: Neighbours) -> Predictions:
    """Each query as a bag: its own class, and that of its nearest tile.

    ``patient_id`` is what the bootstrap draws: a patient, or a block of a slide.
    """
    labelled, queries = plan.labelled, plan.retrieval.queries
    tiles = labelled.tiles
    slides = np.array(tiles.slide_ids, object)[tiles.slide[queries]]
    places = zip(slides, tiles.row[queries], tiles.col[queries], strict=True)
    nearest = labelled.label[found.rows[:, 0]]
    num = len(queries)
    return Predictions(
        labelled.classes,
        bag=np.array([f"{s} {row} {col}" for s, row, col in places], object),
        slide_id=slides,
        patient_id=plan.cluster[queries].astype(str).astype(object),
        target=labelled.label[queries],
        fold=np.zeros(num, int),
        repeat=np.zeros(num, int),
        probabilities=np.eye(len(labelled.classes))[nearest],
    )


def _numbers(key: str, score: Score) -> dict[str, float]:
    ends = score.interval
    return {key: ends.value, f"{key}_low": ends.low, f"{key}_high": ends.high}


def _cell(unit: UnitResult | None, key: str) -> str:
    if unit is None or key not in unit.extras:
        return ""
    value, low, high = (unit.extras[f"{key}{end}"] for end in ("", "_low", "_high"))
    return f"{value:.3f} ({low:.3f} to {high:.3f})"


def _retrieval(
    reference: str,
    name: str,
    units: Mapping[str, UnitResult | None],
    done: Mapping[str, UnitResult],
) -> list[str]:
    cells = [_share(unit) for unit in units.values()]
    unit, other = units["patient"], done.get(f"{reference}-other_patients")
    difference = ""
    if unit and other and name != reference:
        one, two = _hits(unit), _hits(other)
        draws = ClusterDraws(np.unique(one[1], return_inverse=True)[1])
        both = np.stack([one[0], two[0]], 1)
        drawn = draws.means(both)
        gap = percentile_interval(
            float(both[:, 0].mean() - both[:, 1].mean()), drawn[:, 0] - drawn[:, 1]
        )
        difference = f"{gap.value:+.3f} ({gap.low:+.3f} to {gap.high:+.3f})"
    if unit is None:
        return [*cells, difference, "", ""]
    by_chance = f"{unit.extras['chance_hit_at_1']:.1%}"
    return [*cells, difference, by_chance, str(len(unit.predictions))]


def _hits(unit: UnitResult) -> tuple[np.ndarray, np.ndarray]:
    """Whether each query's nearest tile is of its class, and its cluster, [Q] each."""
    found = unit.predictions
    return (found.probabilities.argmax(1) == found.target).astype(
        float
    ), found.patient_id.astype(str)


def _share(unit: UnitResult | None) -> str:
    if unit is None:
        return ""
    hits, cluster = _hits(unit)
    draws = ClusterDraws(np.unique(cluster, return_inverse=True)[1])
    found = percentile_interval(float(hits.mean()), draws.means(hits[:, None])[:, 0])
    return f"{found.value:.1%} ({found.low:.1%} to {found.high:.1%})"
