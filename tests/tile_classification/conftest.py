"""Slides whose fine signs are seen in colour."""

from pathlib import Path

import pytest
import torch
from fixtures.tile_samples import planted

from mshisto_ray.config import validate
from mshisto_ray.phantom.config import PhantomConfig
from mshisto_ray.phantom.write import write_cohort
from mshisto_ray.tile_classification.finetune_config import FinetuneConfig
from mshisto_ray.tiling.recipe import TilingRecipe


@pytest.fixture(scope="session")
def coloured(tmp_path_factory, make_tiles) -> Path:
    """A folder with ``cohort.csv`` and ``tiles``: 6 patients, a slide each."""
    folder = tmp_path_factory.mktemp("coloured")
    config = PhantomConfig(
        num_patients=6, slides_per_patient=1, size=2048, colour_matched=False
    )
    cohort = write_cohort(config, folder)
    recipe = TilingRecipe(scales=(0.5, 2.0), tile_px=64, thumbnail_mpp=8)
    make_tiles(cohort, recipe, folder / "tiles")
    return folder


@pytest.fixture
def config(coloured, tmp_path, monkeypatch):
    """A function that makes a config of ``coloured``, its slides' classes; for CPU."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)

    def make(**override) -> FinetuneConfig:
        raw = {
            "tiles": coloured / "tiles",
            "cohort": coloured / "cohort.csv",
            "out": tmp_path / "out",
            "target": {"column": "label_fine"},
            "scales": [2.0],
            "model": {"backbone": "test_resnet"},
            "run": {"precision": "float32"},
            "optimiser": {"lr": 3e-3},
            "batch_size": 8,
            "steps": 4,
            "validation": {"share": 0.34, "every": 2, "tiles": 40},
        }
        return validate(FinetuneConfig, raw | override)

    return make


@pytest.fixture
def planted_tiles():
    """Makes tiles of every class on every slide."""
    return planted
