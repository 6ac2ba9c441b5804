"""The only folder that uses MLflow: one store, whole runs written by the driver.

Only the driver writes. ``open_store`` creates database and experiment before any
worker starts, and no run is ever "active": every call names its run.
"""

from mshisto_ray.tracking._charts import Charts
from mshisto_ray.tracking._group import Child, RunGroup
from mshisto_ray.tracking._inputs import Input, log_inputs
from mshisto_ray.tracking._limits import flatten
from mshisto_ray.tracking._models import Model, fetch_model, register_model
from mshisto_ray.tracking._open import (
    TrackingConfig,
    check_uri,
    default_uri,
    open_store,
)
from mshisto_ray.tracking._page import RunsView, describe, save_view
from mshisto_ray.tracking._result import ResultRun
from mshisto_ray.tracking._store import Course, Status, Store

__all__ = [
    "Charts",
    "Child",
    "Course",
    "Input",
    "Model",
    "ResultRun",
    "RunGroup",
    "RunsView",
    "Status",
    "Store",
    "TrackingConfig",
    "check_uri",
    "default_uri",
    "describe",
    "fetch_model",
    "flatten",
    "log_inputs",
    "open_store",
    "register_model",
    "save_view",
]
