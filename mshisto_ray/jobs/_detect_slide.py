"""One slide of ``detect``: its maps, truth, measures and pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from PIL import Image

from mshisto_ray.jobs._detect_config import DetectConfig
from mshisto_ray.maps.making import Settings, SlideMap, map_slide, measure_slide
from mshisto_ray.maps.measures import SlideMeasure
from mshisto_ray.maps.picture import draw_map
from mshisto_ray.maps.source import SlideScores
from mshisto_ray.maps.truth import PointTable, lesions
from mshisto_ray.slides import (
    Frame,
    Slide,
    SlideError,
    Watchdog,
    frame_of,
    plain_reader,
)
from mshisto_ray.store.cohort import Cohort
from mshisto_ray.store.tiles import TileDirectory
from mshisto_ray.tiling.annotation import AnnotationError, Region, read_annotation


@dataclass(frozen=True)
class Detected:
    """What was found on a slide at one scale.

    ``maps``: of each class; ``measures``: of each class; ``targets``: of each class the
    lesion or point that each peak finds, None where the truth is not known;
    ``pictures``: by class; ``notes``: lines.
    """

    slide_id: str
    mpp: float
    origin: tuple[int, int]
    maps: tuple[SlideMap, ...]
    measures: tuple[SlideMeasure, ...]
    targets: tuple[np.ndarray | None, ...]
    pictures: Mapping[str, Image.Image] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def without_pixels(self) -> Detected:
        """The same without pictures, which take memory."""
        return replace(self, pictures={})

    def in_words(self) -> str:
        """Regions of each class."""
        return ", ".join(f"{len(m.regions)} regions of {m.name}" for m in self.maps)


class Detector:
    """Makes ``Detected`` of one slide after the other.

    Args:
        config: of the job.
        settings: of maps.
        tiles: of the slides.
        names: classes.
        cohort: with annotations, or None.
        points: true points, or None.
    """

    def __init__(
        self,
        config: DetectConfig,
        settings: Settings,
        tiles: TileDirectory,
        names: Sequence[str],
        cohort: Cohort | None,
        points: PointTable | None,
    ):
        self._config, self._settings = config, settings
        self._tiles, self._names, self._points = tiles, names, points
        self._rows = {row.slide_id: row for row in cohort.rows} if cohort else {}
        self._watchdog = Watchdog()

    def detect(self, scores: SlideScores, columns: Sequence[int]) -> Detected:
        """Maps of the classes in these columns of the probabilities."""
        record, notes = self._tiles.slides[scores.slide_id], []
        slide = self._open(scores.slide_id, notes)
        size = record["width"], record["height"]
        corner = record["bounds_x"] or 0, record["bounds_y"] or 0
        frame = frame_of(slide) if slide else Frame(size, corner, size)
        regions = self._regions(scores.slide_id, frame, notes)
        maps, measures, targets = [], [], []
        pictures: dict[str, Image.Image] = {}
        for name, column in zip(self._names, columns, strict=True):
            found = map_slide(scores, name, column, record["mpp"], size, self._settings)
            measured, target = self._measure(found, record, regions)
            maps.append(found)
            measures.append(measured)
            targets.append(target)
            if slide and self._config.pictures:
                own = [r for r in regions or [] if r.name == self._annotated_as(name)]
                try:
                    least = self._settings.threshold, self._settings.peak_threshold
                    pictures[name] = draw_map(slide, found, own, *least)
                except SlideError as error:
                    notes.append(f"{scores.slide_id}: no picture: {error}")
        if slide:
            slide.close()
        return Detected(
            scores.slide_id, scores.mpp, frame.origin, tuple(maps), tuple(measures),
            tuple(targets), pictures, tuple(notes),
        )  # fmt: skip

    def _open(self, slide_id: str, notes: list[str]) -> Slide | None:
        record = self._tiles.slides[slide_id]
        try:
            reader = plain_reader(record["reader"])
            return self._watchdog.open_slide(Path(record["path"]), reader)
        except SlideError as error:
            notes.append(f"{slide_id}: not opened, no picture: {error}")
            return None

    def _regions(
        self, slide_id: str, frame: Frame, notes: list[str]
    ) -> list[Region] | None:
        """Annotated regions; None: it is not known what the slide holds."""
        row = self._rows.get(slide_id)
        if row is None:
            return None
        if row.annotation is None:
            return [] if self._config.unannotated == "free" else None
        try:
            return read_annotation(row.annotation, frame)
        except (AnnotationError, OSError) as error:
            notes.append(f"{slide_id}: not measured: {error}")
            return None

    def _measure(
        self, found: SlideMap, record: Mapping[str, str], regions: list[Region] | None
    ) -> tuple[SlideMeasure, np.ndarray | None]:
        slide_id = found.scores.slide_id
        row = self._rows.get(slide_id)
        patient = row.patient_id if row else record["patient_id"]
        own = None
        if regions is not None:
            own = lesions(regions, self._annotated_as(found.name))
        points = None
        if self._points is not None and slide_id in self._points.places:
            points = self._points.of(slide_id, found.name)
        measured, target = measure_slide(found, patient, own, points, self._settings)
        if self._points is not None and points is None:
            return replace(measured, hits=None), None  # the table lacks the slide
        return measured, target

    def _annotated_as(self, name: str) -> str:
        return self._config.annotations.get(name, name)
