"""report.html of a sweep."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from mshisto_ray.jobs._commands import command_of
from mshisto_ray.jobs._report_inputs import EarlierSteps
from mshisto_ray.jobs._sweep_config import AnySweepConfig, Sweep, SweepConfig
from mshisto_ray.learning import result_files
from mshisto_ray.learning.predictions import Predictions
from mshisto_ray.learning.retraining.learning_curve import CURVE_PLOT
from mshisto_ray.learning.sweep import results as sweep_results
from mshisto_ray.learning.sweep.points import show, show_axis
from mshisto_ray.prediction.table import PredictedBags, read_predicted
from mshisto_ray.reporting.decisions import WITHIN_FOLDS
from mshisto_ray.reporting.page.blocks import (
    Block,
    Facts,
    Items,
    Page,
    Section,
    Table,
    Text,
)
from mshisto_ray.reporting.page.cases import wrong_blocks
from mshisto_ray.reporting.page.cohort import cohort_section
from mshisto_ray.reporting.page.decisions import decision_blocks
from mshisto_ray.reporting.page.making import made_now, making_section
from mshisto_ray.reporting.page.performance import performance_blocks
from mshisto_ray.reporting.page.ranking import (
    SweepRanking,
    answers,
    curve_blocks,
    out_of_fold_metrics,
    ranking_section,
)
from mshisto_ray.store.cohort import Cohort, read_cohort

SUMMARY, COMPARISONS = "summary.md", "comparisons.csv"


@dataclass(frozen=True)
class SweepReport:
    """The sections of a finished sweep.

    ``config``: of it; ``ranking``: its configs; ``notes``: lines on its bags;
    ``folder``: that shown paths are relative to.
    """

    config: Sweep
    ranking: SweepRanking
    notes: Sequence[str]
    folder: Path

    @cached_property
    def steps(self) -> EarlierSteps | None:
        """Embeddings and tiles; None of a table of bags."""
        read = self.config.directories_read
        return EarlierSteps(read, self.folder) if read else None

    @property
    def files(self) -> list[Path]:
        """What the page is made from.

        The summary names the digest of every config, which identifies its data.
        """
        return report_files(self.config)

    @property
    def page(self) -> Page:
        """The whole page."""
        target = self.config.kind
        steps, title = self.steps, f"Models that predict {target.title}"
        return Page(
            title,
            f"{len(self.ranking.ranked)} configs, compared on the same patients and "
            f"folds; {made_now()}",
            [
                Section("question", "What was asked", [Facts(self.facts)]),
                self.cohort("cohort", "Slides and patients"),
                ranking_section(self.ranking),
                *self.chosen("result", "The chosen config, out of fold"),
                self._making(steps),
            ],
            self.answers,
            self.alarms,
        )

    @property
    def alarms(self) -> list[str]:
        """Random weights; a chosen config that has hardly learned anything."""
        found = self.steps.alarms if self.steps else []
        chosen = self.ranking.chosen
        doubts = chosen.warnings if chosen else []
        return [*found, *(f"The chosen config is {line}." for line in doubts)]

    @property
    def facts(self) -> list[tuple[str, str]]:
        """Question, encoder, axes, folds."""
        config, split = self.config, self.config.split
        target, classes = config.kind, self.predictions.classes
        times = f", {split.repeats} times" if split.repeats > 1 else ""
        who = split.together or "patient"
        axes = [(f"axis {key}", show_axis(axis)) for key, axis in config.axes.items()]
        axes += [("search", show(config.search.model_dump()))] if axes else []
        source = self.steps.facts if self.steps else [("bags", self._bags_path)]
        return [
            ("target", target.explain(classes)),
            config.row_is,
            *source,
            *axes,
            ("folds", f"{split.folds}{times}, seed {split.seed}, by {who}"),
        ]

    @property
    def _bags_path(self) -> str:
        assert isinstance(self.config, SweepConfig)
        return os.path.relpath(str(self.config.bags), self.folder)

    @property
    def answers(self) -> list[tuple[str, str, str]]:
        """How many take part, and the result in short."""
        patients = len(set(self.predictions.patient_id))
        rows = len(set(self.predictions.bag))
        noun = self.predictions.kind.noun
        who = ("patients in the sweep", str(patients), f"{rows} {noun}s")
        return [*answers(self.ranking), who]

    @cached_property
    def predictions(self) -> Predictions:
        """Out of fold, of the chosen config or, where none is, of the first."""
        return self.config.read_test(self._folder)

    @property
    def _folder(self) -> Path:
        return sweep_results.folder(self.config.out, self.ranking.ranked[0].digest)

    def cohort(self, name: str, title: str) -> Section:
        """Who takes part, and who does not."""
        config, steps = self.config, self.steps
        if steps is None or config.cohort is None:
            blocks = [_bags_table(self.predictions), Items(self.notes)]
            return Section(name, title, blocks)
        cohort = read_cohort(config.cohort, False, config.columns)
        last = {"in the sweep": _slides_in(self.predictions, cohort)}
        slides = steps.slides_of(cohort, config.kind.columns[0], last, notes=self.notes)
        return cohort_section(slides, name, title)

    def chosen(self, name: str, title: str, wrong: bool = True) -> list[Section]:
        """How well the chosen config does; none where none was chosen."""
        chosen = self.ranking.chosen
        if chosen is None:
            return []
        blocks: list[Block] = [Text(f"{chosen.point.label} ({chosen.digest})")]
        blocks += performance_blocks(self.predictions, out_of_fold_metrics(chosen))
        sections = [Section(name, title, blocks)]
        curve = self.ranking.curve
        if curve:
            blocks = curve_blocks(curve, self.config.out / CURVE_PLOT)
            sections.append(Section("curve", "Would more patients help?", blocks))
        decisions, config = self.ranking.decisions, self.config.decides
        if decisions and config:
            blocks = decision_blocks(decisions, config, (WITHIN_FOLDS,))
            about = "Decisions of the chosen config"
            sections.append(Section("decisions", about, blocks))
        if wrong and chosen.target.of_classes:
            blocks = wrong_blocks(self._predicted, chosen.target.noun)
            section = Section("wrong", "Most wrong with confidence", blocks)
            sections.append(section)
        return sections

    @property
    def _predicted(self) -> PredictedBags:
        """Of the first repeat; of bags, one row each, of all repeats."""
        found = self.predictions
        if not found.kind.counted:
            return read_predicted(self._folder / result_files.PREDICTIONS)
        found = found.take(found.repeat == found.repeat[0])
        targets = [found.classes[code] for code in found.target.tolist()]
        rows = found.bag.tolist(), found.patient_id.tolist(), targets
        return PredictedBags(found.classes, *rows, found.probabilities)

    def command(self) -> str:
        """What was typed."""
        settings = self.config.model_dump(mode="json")
        return command_of("sweep", type(self.config), settings, self.folder)

    def _making(self, steps: EarlierSteps | None) -> Section:
        stages = steps.stages if steps else {}
        commands = [*(steps.commands if steps else []), self.command()]
        return making_section(
            {**stages, self.config.out.name: self.config.out},
            commands,
            self.config.out,
            self.folder,
        )


def make_report(
    config: AnySweepConfig, ranking: SweepRanking, notes: Sequence[str], folder: Path
) -> SweepReport:
    """The report of a sweep of any task."""
    assert isinstance(config, Sweep)
    return SweepReport(config, ranking, notes, folder)


def report_files(config: Sweep) -> list[Path]:
    """``SweepReport.files``, which do not take its ranking."""
    own = [config.out / name for name in (SUMMARY, COMPARISONS)]
    read = config.directories_read
    if config.cohort is None or not read:
        return own
    return [*own, config.cohort, *EarlierSteps(read, config.out).files]


def _slides_in(predictions: Predictions, cohort: Cohort) -> list[str]:
    """The slides of the bags, which are slides or all of a patient."""
    slides = set(predictions.slide_id.tolist())
    if None not in slides:
        return [row.slide_id for row in cohort.rows if row.slide_id in slides]
    bags = set(predictions.bag.tolist())
    return [row.slide_id for row in cohort.rows if row.patient_id in bags]


def plot_name(config: AnySweepConfig) -> str:
    """File of the picture of all configs."""
    return f"test_{config.kind.chooses}.png"


def _bags_table(predictions: Predictions) -> Table:
    first = predictions.repeat == predictions.repeat[0]
    noun = predictions.kind.noun
    if not predictions.kind.of_classes:
        truth = predictions.target[first]
        about = predictions.kind.describe(truth, predictions.classes)
        counts = [str(first.sum()), str(len(set(predictions.patient_id[first])))]
        return Table(["target", f"{noun}s", "patients"], [[about, *counts]])
    patients: dict[str, set[str]] = {}
    for code, patient in zip(
        predictions.target[first], predictions.patient_id[first], strict=True
    ):
        patients.setdefault(predictions.classes[code], set()).add(patient)
    sizes = Counter(predictions.classes[code] for code in predictions.target[first])
    rows = [
        [name, str(sizes[name]), str(len(patients.get(name, ())))]
        for name in predictions.classes
    ]
    return Table(["label", f"{noun}s", "patients"], rows)
