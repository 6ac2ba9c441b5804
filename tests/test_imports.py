"""What commands and workers import; each of the libraries here takes up to a second."""

import subprocess
import sys

import pytest

# Loaded where a job needs them: a network, a fit of scikit-learn, a test of scipy.
LATER = {"timm", "torchvision", "sklearn", "scipy.stats", "mlflow", "transformers"}
WORKERS = ["distributed.trial_worker", "embedding.worker", "prediction.unit"]
COMMANDS = ["run", "sweep", "train", "predict", "evaluate", "pretrain", "tile_head"]


@pytest.mark.parametrize(
    "modules", [WORKERS, [f"jobs.{name}" for name in COMMANDS]], ids=["worker", "job"]
)
def test_slow_libraries_are_imported_where_they_are_used(modules):
    code = f"""
import importlib, sys
for module in {modules}:
    importlib.import_module("mshisto_ray." + module)
print(*sorted({LATER} & set(sys.modules)))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == []
