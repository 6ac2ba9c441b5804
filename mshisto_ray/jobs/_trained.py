"""What ``train`` and ``tile_head`` add to a trained head: learning curve, decisions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from mshisto_ray.decision.config import DecisionConfig
from mshisto_ray.jobs._decisions import DECISIONS, decided
from mshisto_ray.learning.retraining.learning_curve import (
    CURVE,
    CURVE_PLOT,
    Size,
    missing_sizes,
    read_curve,
    run_size,
    write_curve,
    write_patients,
)
from mshisto_ray.learning.split import Split
from mshisto_ray.learning.sweep.experiment import Experiment
from mshisto_ray.progress import say
from mshisto_ray.reporting.decisions import (
    WITHIN_FOLDS,
    decision_section,
    save_decisions,
)
from mshisto_ray.reporting.learning_curve import plot_curve, rerun_sections
from mshisto_ray.store.manifest import write_text

SUMMARY = "summary.md"


class _Trained(Protocol):
    """What the config of a job that trains one head says."""

    @property
    def learning_curve(self) -> tuple[Size, ...]:
        """Sizes."""
        ...

    @property
    def out(self) -> Path:
        """Folder of the job."""
        ...


def train_on_fewer(
    name: str,
    job: _Trained,
    config: Experiment,
    data: Any,
    splits: Sequence[Split],
    folder: Path,
) -> None:
    """Train what is missing of the learning curve of a result.

    Args:
        name: of the job, in messages.
        job: its config.
        config: the same, as an experiment.
        data: of it.
        splits: of ``data``.
        folder: of the result.
    """
    sizes, seed = job.learning_curve, config.split_config.seed
    missing = missing_sizes(folder, sizes)
    if sizes:
        write_patients(folder, config.rows(data), splits, seed, sizes)
    if missing:
        num = len(missing) * len(splits)
        say(f"{name}: learning curve: {num} more models, of fewer patients each")
    for size in missing:
        run_size(folder, data, splits, config, size)
        say(f"{name}: learning curve, size {size}: done")


def write_summary(
    name: str,
    job: _Trained,
    config: Experiment,
    folder: Path,
    decision: DecisionConfig | None,
) -> list[Path]:
    """Write decisions and learning curve, where there are any; returns the files.

    Arguments as of ``train_on_fewer``; ``decision``: None: none is shown.
    """
    found = decided(config, folder, decision) if decision else None
    metric = config.kind.chooses
    curve = read_curve(folder, job.learning_curve, metric, config)
    text = ""
    if found and decision:
        text += decision_section(found, decision, (WITHIN_FOLDS,))
        save_decisions(job.out / DECISIONS, found)
    if curve:
        text += rerun_sections(curve, None)
        write_curve(job.out / CURVE, curve)
        plot_curve(job.out / CURVE_PLOT, curve)
    if text:
        write_text(job.out / SUMMARY, "# Training\n" + text)
        say(f"{name}: decisions and learning curve: {job.out / SUMMARY}")
    names = (SUMMARY, DECISIONS, CURVE, CURVE_PLOT)
    return [job.out / name for name in names if (job.out / name).exists()]
