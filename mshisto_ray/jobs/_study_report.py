"""report.html of a whole study: the sweep, then the predictions of its best head."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from mshisto_ray.jobs import sweep
from mshisto_ray.jobs._commands import command_of
from mshisto_ray.jobs._predict_report import PredictReport
from mshisto_ray.jobs._study_config import RunConfig, StudySteps
from mshisto_ray.jobs._sweep_report import SweepReport, report_files
from mshisto_ray.reporting.page.blocks import Facts, Page, Section
from mshisto_ray.reporting.page.making import made_now, making_section
from mshisto_ray.reporting.page.ranking import ranking_section
from mshisto_ray.store.cohort import read_cohort

# Of both cohorts together.
_MOST_LOOKS = 8


@dataclass(frozen=True)
class StudyReport:
    """The sections of a finished study.

    ``config``: of it; ``steps``: their configs; ``predicted``: directories of the
    cohort's predictions, and of the new cohort's.
    """

    config: RunConfig
    steps: StudySteps
    predicted: Sequence[Path]

    @property
    def files(self) -> list[Path]:
        """What the page is made from."""
        rest = [file for report in self._predictions for file in report.files]
        return [*report_files(self.steps.sweep), *rest]

    @property
    def page(self) -> Page:
        """The whole page."""
        config = self.config
        swept = sweep.read_report(self.steps.sweep, config.out.parent)
        cohort = read_cohort(config.cohort, False, config.columns)
        own, *new = self._predictions
        return Page(
            f"Predicting {config.target.build().title} from whole slide images",
            f"{cohort.summary}; {made_now()}",
            [
                Section("question", "What was asked", [Facts(self._facts(swept))]),
                swept.cohort("cohort", "Slides and patients"),
                ranking_section(swept.ranking),
                *swept.chosen("result", "The chosen config, out of fold", wrong=False),
                *own.cases("", ""),
                *(section for report in new for section in _new(report)),
                self._making(own),
            ],
            [*swept.answers, *(a for report in new for a in report.answers)],
            swept.alarms,
        )

    def _facts(self, swept: SweepReport) -> list[tuple[str, str]]:
        new = [("new cohort", self.config.new_cohort)] if self.config.new_cohort else []
        places = [("cohort", self.config.cohort), *new]
        folder = self.config.out.parent
        rows = [(name, os.path.relpath(path, folder)) for name, path in places]
        return [*swept.facts, *rows]

    @cached_property
    def _predictions(self) -> list[PredictReport]:
        config = self.config
        cohorts = [path for path in (config.cohort, config.new_cohort) if path]
        most, best = _MOST_LOOKS // len(cohorts), self.steps.sweep.out / "best"
        return [
            PredictReport(
                self.steps.prediction(cohort, out, best).parts()[""],
                config.out.parent,
                most_looks=most,
            )
            for cohort, out in zip(cohorts, self.predicted, strict=True)
        ]

    def _making(self, own: PredictReport) -> Section:
        config, folder = self.config, self.config.out.parent
        command = command_of("run", RunConfig, config.model_dump(mode="json"), folder)
        stages = {**own.steps.stages, "sweep": self.steps.sweep.out}
        stages |= {path.name: path for path in self.predicted}
        return making_section(stages, [command], config.out, folder)


def _new(report: PredictReport) -> list[Section]:
    what = ", new cohort"
    return [
        report.cohort("new-cohort", "The new cohort", pictures=False),
        *report.result("new-result", f"How well the chosen config does{what}"),
        *report.cases("new-", what),
    ]
