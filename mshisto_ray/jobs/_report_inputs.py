"""What reports say of the steps before: slides, failures, encoder, versions."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from mshisto_ray.jobs._commands import command_of
from mshisto_ray.jobs._contact_sheet import page_path
from mshisto_ray.jobs._coverage import coverage_by_scale, coverage_notes
from mshisto_ray.jobs._embed_config import EmbedConfig
from mshisto_ray.jobs.tile import TileConfig
from mshisto_ray.learning.sweep.points import show
from mshisto_ray.reporting.page.cohort import CohortSlides
from mshisto_ray.store.cohort import Cohort
from mshisto_ray.store.embeddings import EmbeddingDirectory
from mshisto_ray.store.failures import Failure
from mshisto_ray.store.manifest import MANIFEST
from mshisto_ray.store.tiles import TileDirectory

# Not within an address or another path; punctuation ends a sentence.
_ABSOLUTE = re.compile(r"(?<![\w.~/:])/[^\s'\",:;()]+")
_TABLES = (MANIFEST, "slides.parquet", "failures.parquet")


class EarlierSteps:
    """The directories of embeddings that a job reads, and of the tiles before them.

    Args:
        embeddings: one, or one per scale.
        folder: that shown paths are relative to.
    """

    def __init__(self, embeddings: Sequence[Path], folder: Path):
        self.embeddings = [EmbeddingDirectory(p) for p in dict.fromkeys(embeddings)]
        self.folder = folder
        given = {e.manifest.recorded.get("tiles") for e in self.embeddings}
        paths = sorted(Path(path) for path in given if isinstance(path, str))
        self.tiles = [TileDirectory(p) for p in paths if (p / MANIFEST).is_file()]

    @property
    def files(self) -> list[Path]:
        """Files of the earlier steps that the page is made from."""
        found = [d.path / name for d in self._directories for name in _TABLES]
        return [*found, *(page_path(d.path, 0) for d in self.tiles)]

    @property
    def stages(self) -> dict[str, Path]:
        """The directories by the name to show."""
        return {directory.path.name: directory.path for directory in self._directories}

    @property
    def commands(self) -> list[str]:
        """The commands of the earlier steps, as their manifests record them."""
        lines = []
        for directory in self._directories:
            recorded = directory.manifest.recorded
            if isinstance(directory, TileDirectory):
                lines.append(command_of("tile", TileConfig, recorded, self.folder))
            elif "features" not in recorded:  # an import of other software's
                lines.append(command_of("embed", EmbedConfig, recorded, self.folder))
        return lines

    @property
    def _directories(self) -> list[TileDirectory | EmbeddingDirectory]:
        return [*self.tiles, *self.embeddings]

    @property
    def facts(self) -> list[tuple[str, str]]:
        """Encoder, scales and tiles."""
        facts = []
        for directory in self.embeddings:
            scales = ", ".join(f"{mpp:g}" for mpp in directory.scales)
            words = self.shorten(_encoder(directory))
            facts.append(("encoder", f"{words}; {directory.dim} numbers a tile"))
            px = directory.tile_px
            side = f", tiles of {px} px" if px else ""
            facts.append(("scales", f"{scales} um/px{side}"))
        return list(dict.fromkeys(facts))

    @property
    def alarms(self) -> list[str]:
        """A warning if the encoder was never trained."""
        return [
            f"RANDOM WEIGHTS: the encoder {_encoder(directory)} was never trained. "
            "Models trained on its embeddings say nothing about a trained encoder."
            for directory in self.embeddings
            if directory.has_random_weights
        ]

    def slides_of(
        self,
        cohort: Cohort,
        column: str,
        last: Mapping[str, Iterable[str]],
        failures: Iterable[Failure] = (),
        notes: Iterable[str] = (),
    ) -> CohortSlides:
        """The slides of a cohort, and how far each has come.

        Args:
            cohort: the table.
            column: the label, which it may lack.
            last: slides that reached the steps after embedding.
            failures: of these steps.
            notes: on what is left out.
        """
        patients = {row.slide_id: row.patient_id for row in cohort.rows}
        reached = (
            {"tiled": [s for d in self.tiles for s in d.slides]} if self.tiles else {}
        )
        whole = [set(directory.slide_ids) for directory in self.embeddings]
        reached["embedded"] = [s for s in patients if all(s in ids for ids in whole)]
        found = [f for d in self._directories for f in read_failures(d.path)]
        # A stage repeats the failures of the one before it.
        distinct = dict.fromkeys([*found, *failures])
        own = [f for f in distinct if f.slide_id in patients]
        return CohortSlides(
            patients,
            cohort.column(column) if cohort.find(column) else None,
            column,
            {**reached, **{name: list(slides) for name, slides in last.items()}},
            [replace(f, message=self.shorten(f.message)) for f in own],
            [self.shorten(note) for note in (*cohort.notes, *notes)],
            self._coverage(patients),
            page_path(self.tiles[0].path, 0) if self.tiles else None,
        )

    def _coverage(self, patients: Mapping[str, str]) -> list[str]:
        lines = []
        for directory in self.tiles:
            rows = [r for s, r in directory.slides.items() if s in patients]
            known = coverage_by_scale(row for row in rows if row.get("coverage"))
            threshold = directory.manifest.recipe.get("tissue_threshold", 0.0)
            lines += coverage_notes(known, threshold)
        return [line[0].upper() + line[1:] for line in lines]

    def shorten(self, text: str) -> str:
        """The text with the paths of existing files relative to ``folder``."""

        def relative(found: re.Match[str]) -> str:
            path = Path(found[0])
            return os.path.relpath(path, self.folder) if path.exists() else found[0]

        return _ABSOLUTE.sub(relative, text.replace(f"{self.folder}/", ""))


def _encoder(directory: EmbeddingDirectory) -> str:
    """Its name and parameters as configured, and the digest of its weights."""
    known: Any = directory.manifest.recipe["encoder"]
    given = directory.manifest.recorded.get("encoder") or known
    digest = known.get("digest") if isinstance(known, Mapping) else None
    return show(given) + (f", digest {digest}" if digest else "")


def read_failures(out: Path) -> list[Failure]:
    """The failures that a stage directory records; none where it has no table."""
    path = out / "failures.parquet"
    if not path.is_file():
        return []
    return [Failure(**row) for row in pq.read_table(path).to_pylist()]
