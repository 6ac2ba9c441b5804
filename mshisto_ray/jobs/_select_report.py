"""summary.md and report.html of a comparison of encoders."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mshisto_ray.jobs._commands import command_of
from mshisto_ray.jobs._select_config import SCORES, SUMMARY, SelectConfig
from mshisto_ray.learning.tile_metrics import TileMetrics
from mshisto_ray.reporting.encoder_ranking import about
from mshisto_ray.reporting.encoder_tables import EncoderTable, show
from mshisto_ray.reporting.page.blocks import (
    Block,
    Facts,
    Figure,
    Figures,
    Page,
    Section,
    Table,
    Text,
)
from mshisto_ray.reporting.page.images import drawing, photograph
from mshisto_ray.reporting.page.making import made_now, making_section
from mshisto_ray.reporting.ranking_plot import draw_ranking
from mshisto_ray.tile_classification.head.samples import TileSamples
from mshisto_ray.tile_classification.ranking import Ranked, rank

_FLOOR = "floor:"


@dataclass(frozen=True)
class SelectReport:
    """A finished comparison.

    ``samples``: of each encoder; ``by_probe``: scores; ``answer``: which encoder, in
    words; ``maps``: pictures; ``notes``: warnings.
    """

    config: SelectConfig
    samples: Mapping[str, TileSamples]
    by_probe: Mapping[str, Mapping[str, TileMetrics]]
    answer: str
    tables: Sequence[EncoderTable]
    maps: Mapping[str, Path]
    notes: Sequence[str] = ()

    @property
    def summary(self) -> str:
        """Markdown of all tables."""
        lines = ["# Encoders compared"]
        for line in (self.answer, *about(self._first), *self.notes):
            lines += ["", line]
        return (
            "\n".join([*lines, *(x for t in self.tables for x in t.markdown())]) + "\n"
        )

    @property
    def files(self) -> list[Path]:
        """What the page is made from."""
        out = self.config.out
        return [out / SUMMARY, out / SCORES, *self.maps.values()]

    @property
    def page(self) -> Page:
        """The whole page."""
        first, *notes = (*about(self._first), *self.notes)
        facts = Section("question", "What was compared", [
            Facts(self._facts), Text(self.answer), Text(first),
            *(Text(note, "warning") for note in notes),
        ])  # fmt: skip
        sections = [facts, *map(self._section, self.tables)]
        if self.maps:
            sections.append(self._map_section())
        out = self.config.out
        settings = self.config.model_dump(mode="json")
        command = command_of("select_backbone", SelectConfig, settings, out.parent)
        sections.append(making_section({}, [command], out, out.parent))
        names = ", ".join(self._first.classes)
        title = f"Which encoder tells {names} apart"
        return Page(
            title, f"{len(self.samples)} encoders; {made_now()}", sections, self.answers
        )

    @property
    def answers(self) -> list[tuple[str, str, str]]:
        """The best group, its first, and what the floors reach."""
        best, metric = self._ranked[0], self.config.metric.replace("_", " ")
        tied = [row.name for row in self._ranked if row.group == 1]
        floors = [row for row in self._ranked if row.name.startswith(_FLOOR)]
        cards = [
            (f"{metric} of the best, {self._main}", f"{best.score.value:.3f}",
             f"{best.name}, {show(best.score)}"),
            ("encoders that cannot be told apart", str(len(tied)), ", ".join(tied)),
        ]  # fmt: skip
        if floors:
            top = floors[0]
            says = "a floor is among them: the tiles tell the encoders little apart"
            apart = f"{top.name.removeprefix(_FLOOR).strip()}, group {top.group}"
            more = says if top.group == 1 else apart
            cards.append(("the best floor", f"{top.score.value:.3f}", more))
        return cards

    @property
    def _first(self) -> TileSamples:
        return next(iter(self.samples.values()))

    @property
    def _main(self) -> str:
        return next(iter(self.config.probes))

    @property
    def _ranked(self) -> list[Ranked]:
        return rank(self.by_probe[self._main], self.config.metric)

    @property
    def _facts(self) -> list[tuple[str, str]]:
        config, split = self.config, self.config.split
        out = config.out.parent
        if config.images:
            source = os.path.relpath(config.images.table, out)
        else:
            source = ", ".join(
                os.path.relpath(p, out) for p in config.embeddings.values()
            )
        pixels = []
        if config.images:
            scaled = f"scaled to {config.images.px} px" if config.images.px else (
                "at the images' own scale, as large as all have in common"
            )  # fmt: skip
            pixels = [("pixels", f"the middle square of each image, {scaled}")]
        times = f", {split.repeats} times" if split.repeats > 1 else ""
        return [
            ("tiles", source),
            *pixels,
            ("encoders", ", ".join(self.samples)),
            ("probes", f"{', '.join(config.probes)}; the first one ranks"),
            ("metric", config.metric),
            ("folds", f"{split.folds}{times}, seed {split.seed}, by patient or group"),
        ]

    def _section(self, table: EncoderTable) -> Section:
        blocks: list[Block] = [Text(table.text)] if table.text else []
        title, marked = table.title, set[int]()
        if table.name in self.by_probe:
            ranks = ", which ranks" if table.name == self._main else ""
            title = f"Probe {table.name}{ranks}"
            marked = {i for i, row in enumerate(table.rows) if row[0] == "1"}
            scores = self.by_probe[table.name]
            plot = draw_ranking(rank(scores, self.config.metric), self.config.metric)
            what = (
                f"{self.config.metric} of each encoder by {table.name}, with intervals"
            )
            blocks.append(Figures([Figure(drawing(plot), what, f"{what}.")]))
        words = {i for i, name in enumerate(table.header) if name in _WORDS}
        blocks.append(
            Table(table.header, table.rows, marked=marked, text_columns=words)
        )
        return Section(table.name, title, blocks)

    def _map_section(self) -> Section:
        figures = [
            Figure(photograph(path, 900), f"Tiles by {name}", name)
            for name, path in self.maps.items()
        ]
        text = (
            "UMAP of the embeddings by angle. It shows which tiles are near each "
            "other; distances between groups and their sizes mean little, and so does "
            "a prettier map."
        )
        return Section("maps", "Tiles on a plane", [Text(text), Figures(figures, 2)])


_WORDS = ("encoder", "engine", "licence of the weights", "")
