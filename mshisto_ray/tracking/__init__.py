"""The only folder that uses MLflow: one store, whole runs written by the driver.

Only the driver writes. ``open_store`` creates database and experiment before any
worker starts, and no run is ever "active": every call names its run.
"""

from mshisto_ray.tracking._limits import flatten
from mshisto_ray.tracking._open import (
    TrackingConfig,
    check_uri,
    default_uri,
    open_store,
)
from mshisto_ray.tracking._result import ResultRun
from mshisto_ray.tracking._store import Store

__all__ = [
    "ResultRun",
    "Store",
    "TrackingConfig",
    "check_uri",
    "default_uri",
    "flatten",
    "open_store",
]
