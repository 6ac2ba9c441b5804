"""Decisions of a head on the page."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure as Canvas

from mshisto_ray.decision.config import DecisionConfig
from mshisto_ray.decision.examination import Examination
from mshisto_ray.reporting.decisions import decision_table, plot_decisions
from mshisto_ray.reporting.page.blocks import (
    Block,
    Figure,
    Figures,
    Table,
    Text,
)
from mshisto_ray.reporting.page.images import drawing


def decision_blocks(
    found: Examination, config: DecisionConfig, about: Sequence[str]
) -> list[Block]:
    """Paragraphs ``about`` what is shown, pictures, and the table."""
    canvas = Canvas(figsize=(9, 4), layout="constrained")
    title = plot_decisions(found, canvas)
    header, *rows = decision_table(found, config)
    return [
        *(Text(line) for line in about),
        Figures([Figure(drawing(canvas), title, f"{title}.")]),
        Table(header, rows),
    ]
