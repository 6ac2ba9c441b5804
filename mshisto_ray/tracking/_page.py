"""What MLflow's pages show first: a description, and the runs table of a job.

MLflow 3 opens an experiment on its page for language models unless the link asks for
machine learning, and shows no metric until a user chooses columns. A view that it
shares by link is an experiment tag with the page's state, so a job can write one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass

from mshisto_ray.tracking._charts import Charts, chart_state
from mshisto_ray.tracking._store import PARENT_TAG, Store

_NOTE = "mlflow.note.content"
_KIND = {"mlflow.experimentKind": "custom_model_development"}
_VIEW = "mlflow.sharedViewState."
_MAX_NOTE = 7500
_NAME = "attributes.`Run Name`"
# Widths in MLflow's runs table: of a character, of the icons before a run's name, of
# the widest column of names, of each other column.
_CHARACTER_PX, _ICONS_PX, _WIDEST_PX, _COLUMN_PX = 7, 75, 420, 118
_CUT = "\n\n(cut: the whole text is an artifact of this run)\n"


@dataclass(frozen=True)
class RunsView:
    """The runs table of a parent's children: columns from left to right, and order.

    Columns as MLflow names them: ``params.`pooling```, ``metrics.`val_auroc```.
    ``longest_name``: characters of a run's name that its column has room for; None:
    MLflow's own width. ``charts``: of the page beside the table.
    """

    parent: str
    columns: Sequence[str]
    order_by: str
    ascending: bool = False
    longest_name: int | None = None
    charts: Charts | None = None


def describe(store: Store, run_id: str, markdown: str) -> None:
    """Show a text as the description of a run; a long one is cut after a line."""
    if len(markdown) > _MAX_NOTE:
        markdown = markdown[:_MAX_NOTE].rpartition("\n")[0] + _CUT
    store.client.set_tag(run_id, _NOTE, markdown)


def save_view(store: Store, view: RunsView) -> str:
    """Keep a view of the runs table in the store; return the page that shows it."""
    state = {
        "searchFilter": f"tags.`{PARENT_TAG}` = '{view.parent}'",
        "orderByKey": view.order_by,
        "orderByAsc": view.ascending,
        "selectedColumns": list(view.columns),
        # Without an order metrics come by their names, after or before all params.
        "columnOrder": [_NAME, *view.columns],
        "columnWidths": _widths(view),
        **(chart_state(view.charts) if view.charts else {}),
    }
    key = hashlib.blake2b(view.parent.encode(), digest_size=8).hexdigest()
    tags = {**_KIND, f"{_VIEW}{key}": json.dumps(state)}
    for name, value in tags.items():
        store.client.set_experiment_tag(store.experiment_id, name, value)
    return (
        f"#/experiments/{store.experiment_id}/runs"
        f"?workflowType=machine_learning&viewStateShareKey={key}"
    )


def _widths(view: RunsView) -> dict[str, int]:
    """Widths of the columns in pixels; others have MLflow's own."""
    widths = dict.fromkeys(view.columns, _COLUMN_PX)
    if view.longest_name:
        widths[_NAME] = min(_ICONS_PX + _CHARACTER_PX * view.longest_name, _WIDEST_PX)
    return widths
