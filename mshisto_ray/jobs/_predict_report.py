"""report.html of a prediction."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from mshisto_ray.jobs._commands import command_of
from mshisto_ray.jobs._predict_config import (
    OneHeadConfig,
    embedding_paths,
    read_predict_cohort,
)
from mshisto_ray.jobs._report_inputs import EarlierSteps, read_failures
from mshisto_ray.learning.predictions import Predictions
from mshisto_ray.learning.sweep.points import show
from mshisto_ray.mil.head import Head
from mshisto_ray.mil.loading import open_head
from mshisto_ray.prediction.bags import make_bags
from mshisto_ray.prediction.decisions import examine_predicted, read_calibrated
from mshisto_ray.prediction.result import METRICS, PREDICTIONS, SUBGROUPS
from mshisto_ray.prediction.table import PredictedBags, read_predicted
from mshisto_ray.reporting.decisions import verdicts
from mshisto_ray.reporting.page.blocks import (
    Block,
    Facts,
    Items,
    Page,
    Section,
    Table,
    Text,
)
from mshisto_ray.reporting.page.cases import Looks, look_blocks, wrong_blocks
from mshisto_ray.reporting.page.cohort import cohort_section
from mshisto_ray.reporting.page.decisions import decision_blocks
from mshisto_ray.reporting.page.making import made_now, making_section
from mshisto_ray.reporting.page.performance import performance_blocks, show_interval
from mshisto_ray.statistics.bootstrap import Interval

_MOST_LOOKS = 8
_FAILURES = "failures.parquet"


@dataclass(frozen=True)
class PredictReport:
    """The sections of a finished prediction.

    ``config``: of it; ``folder``: that shown paths are relative to; ``notes``: lines
    on its metrics; ``most_looks``: slides with heat maps.
    """

    config: OneHeadConfig
    folder: Path
    notes: Sequence[str] = ()
    most_looks: int = _MOST_LOOKS

    @cached_property
    def head(self) -> Head:
        """What predicted."""
        return open_head(self.config.head)

    @cached_property
    def steps(self) -> EarlierSteps:
        """Embeddings and tiles."""
        return EarlierSteps(embedding_paths(self.config, self.head), self.folder)

    @cached_property
    def bags(self) -> PredictedBags:
        """What was predicted."""
        return read_predicted(self.config.out / PREDICTIONS)

    @property
    def files(self) -> list[Path]:
        """What the page is made from."""
        out, tables = self.config.out, (PREDICTIONS, METRICS, SUBGROUPS, _FAILURES)
        pictures = sorted((out / "heatmaps").glob("*.png"))
        tables = [out / name for name in tables]
        head = self.config.head / "model.json"
        return [*tables, head, self.config.cohort, *self.steps.files, *pictures]

    @property
    def page(self) -> Page:
        """The whole page."""
        return Page(
            f"Predictions of {self.head.kind.title}",
            f"{len(self.bags.names)} bags, {self._whose}; {made_now()}",
            [
                Section("question", "What was asked", [Facts(self._facts)]),
                self.cohort("cohort", "Slides and patients"),
                *self.result("result", "How well it does"),
                *self.cases("", ""),
                self._making,
            ],
            self.answers,
            self.steps.alarms,
        )

    @property
    def _whose(self) -> str:
        """Whether the models of the head have seen patients of the cohort."""
        seen = self._num_seen
        if not seen:
            return "of patients that no model of the head was trained on"
        some = "" if seen == len(self.bags.names) else f"{seen} of them "
        return f"{some}out of fold: by the models that did not see the patient"

    @property
    def _num_seen(self) -> int:
        return sum(patient in self.head.folds for patient in self.bags.patient_ids)

    @property
    def _facts(self) -> list[tuple[str, str]]:
        head, classes = self.head, self.head.classes
        config = head.about["config"]
        used = head.scales or (head.scale,)
        return [
            ("target", head.kind.explain(classes)),
            ("a bag is", f"a {head.about['unit']}"),
            ("head", self.steps.shorten(str(self.config.head))),
            ("model", f"{show(config['pooling'])}, {len(head.models)} fold models"),
            ("scales of the model", f"{', '.join(f'{s:g}' for s in used)} um/px"),
            *self.steps.facts,
        ]

    @property
    def answers(self) -> list[tuple[str, str, str]]:
        """The result in short."""
        num, seen = len(self.bags.names), self._num_seen
        whose = "new cohort" if not seen else "out of fold"
        patients = len(set(self.bags.patient_ids))
        cards = [(f"bags predicted, {whose}", str(num), f"of {patients} patients")]
        kind = self.head.kind
        main = self.metrics.get(kind.chooses)
        if main is None or math.isnan(main.value):
            return cards
        more = f"{main.low:.3f} to {main.high:.3f}, 95 % interval over patients"
        title = f"{kind.titles[kind.chooses]}, {whose}"
        return [(title, f"{main.value:.3f}", more), *cards]

    @cached_property
    def metrics(self) -> dict[str, Interval]:
        """As the job has computed them; NaN where one is not defined."""
        found = json.loads((self.config.out / METRICS).read_text())
        return {
            name: Interval(*(math.nan if v is None else v for v in ends.values()))
            for name, ends in found.items()
        }

    def cohort(self, name: str, title: str, pictures: bool = True) -> Section:
        """Who is predicted, and who is not; ``pictures``: the contact sheet too."""
        cohort = read_predict_cohort(self.config)
        bags, notes = make_bags(self.head, cohort)
        done = set(self.bags.names)
        slides = [s for bag in bags if bag.name in done for s in bag.slide_ids]
        column = self.head.kind.columns[0]
        own = read_failures(self.config.out)
        last = {"predicted": slides}
        found = self.steps.slides_of(cohort, column, last, own, notes)
        if not pictures:
            found = replace(found, contact_sheet=None)
        return cohort_section(found, name, title)

    def result(self, name: str, title: str) -> list[Section]:
        """Curves and metrics; none where no bag has a label."""
        labelled = self.bags.labelled()
        if labelled is None:
            text = "No bag has a label, so there is nothing to measure."
            return [Section(name, title, [Text(text, "note"), *self._localised])]
        blocks = performance_blocks(labelled, self._of_labels)
        if self.notes:
            blocks.append(Items(self.notes, "Notes"))
        blocks += [*self._decisions(labelled), *self._subgroups, *self._localised]
        return [Section(name, title, blocks)]

    def _decisions(self, labelled: Predictions) -> list[Block]:
        """How the head's decisions do on the labelled bags, of classes."""
        decision = self.head.decision
        if decision is None or not self.head.kind.of_classes:
            return []
        table, names = self.config.out / PREDICTIONS, labelled.bag.tolist()
        calibrated = read_calibrated(table, self.head.classes, names)
        if calibrated is None:
            calibrated = labelled.probabilities
        found = examine_predicted(decision, labelled, calibrated)
        return decision_blocks(found, decision.config, verdicts(found, decision.config))

    @property
    def _of_labels(self) -> dict[str, Interval]:
        return {n: i for n, i in self.metrics.items() if "_auroc_" not in n}

    @property
    def _localised(self) -> list[Block]:
        """How well scores find annotated tiles."""
        rows = [
            [name.replace("_", " "), show_interval(found)]
            for name, found in self.metrics.items()
            if "_auroc_" in name
        ]
        about = (
            "AUROC of the tiles' scores against annotated tiles, within a slide, mean "
            "over the slides that hold both kinds; the number at the end: um/px"
        )
        header = ["score", "value (95 % interval)"]
        title = "Whether it looks at annotated tiles"
        return [Table(header, rows, title, about)] if rows else []

    @property
    def _subgroups(self) -> list[Block]:
        path = self.config.out / SUBGROUPS
        if not self.config.subgroups or not path.is_file():
            return []
        with path.open(newline="") as file:
            header, *rows = csv.reader(file)
        kept = [row for row in rows if row[4] in ("auroc", "accuracy")]
        cells = [[*row[:5], *(_rounded(cell) for cell in row[5:])] for row in kept]
        return [Table(header, cells, "Subgroups", text_columns=(0, 1, 4))]

    def cases(self, prefix: str, what: str) -> list[Section]:
        """The most wrong predictions, and where the model looks; of classes."""
        if not self.head.kind.of_classes:
            return []
        bags = make_bags(self.head, read_predict_cohort(self.config))[0]
        slides = {bag.name: bag.slide_ids for bag in bags}
        folder = self.config.out / "heatmaps"
        looks = Looks(folder, slides, self.head.classes, self.most_looks)
        wrong, look = wrong_blocks(self.bags), look_blocks(self.bags, looks)
        return [
            Section(f"{prefix}wrong", f"Most wrong with confidence{what}", wrong),
            Section(f"{prefix}looks", f"Where the model looks{what}", look),
        ]

    def command(self) -> str:
        """What was typed."""
        settings = self.config.model_dump(mode="json")
        return command_of("predict", OneHeadConfig, settings, self.folder)

    @property
    def _making(self) -> Section:
        out = self.config.out
        commands = [*self.steps.commands, self.command()]
        stages = {**self.steps.stages, out.name: out}
        return making_section(stages, commands, out, self.folder)


def _rounded(cell: str) -> str:
    try:
        return f"{float(cell):.3f}"
    except ValueError:
        return cell
