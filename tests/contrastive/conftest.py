"""Small drawn cohorts of tiles."""

from pathlib import Path

import numpy as np
import pytest

from mshisto_ray.contrastive.tile_index import TileIndex, build_index, read_index
from mshisto_ray.phantom.config import PhantomConfig
from mshisto_ray.phantom.write import write_cohort
from mshisto_ray.store.tiles import TileDirectory
from mshisto_ray.tiling.recipe import TilingRecipe


def draw_index(
    num_slides=6,
    side=12,
    scales=(0.5, 1.0, 2.0),
    mpp=(0.5, 0.25, 0.52),
    tile_px=64,
    holes=0.2,
    labels=None,
    seed=0,
) -> TileIndex:
    """Slides with holes; a coarse tile is held where any of its fine ones is."""
    generator = np.random.default_rng(seed)
    layers = {}
    pitch = np.ones((num_slides, len(scales)))
    for slide in range(num_slides):
        tissue = generator.random((side, side)) >= holes
        for number, scale in enumerate(scales):
            k = round(scale / scales[0])
            row, col = np.nonzero(tissue)
            place = np.unique(np.stack([row // k, col // k], 1), axis=0)
            layers[slide, number] = place[:, 0], place[:, 1]
            # The true resolution differs a little from slide to slide.
            pitch[slide, number] = tile_px * scale * mpp[slide % len(mpp)] / mpp[0]
    if labels is None:
        labels = [slide % 2 for slide in range(num_slides)]
    patient = np.arange(num_slides) // 2
    names = [f"s{slide}" for slide in range(num_slides)]
    return build_index(layers, scales, pitch, names, patient, np.array(labels))


@pytest.fixture
def make_index():
    return draw_index


@pytest.fixture(scope="session")
def phantom(tmp_path_factory, make_tiles) -> Path:
    """A folder with ``cohort.csv`` and ``tiles``: 6 patients, a slide each."""
    folder = tmp_path_factory.mktemp("phantom")
    config = PhantomConfig(num_patients=6, slides_per_patient=1, size=2048)
    cohort = write_cohort(config, folder)
    recipe = TilingRecipe(scales=config.scales, tile_px=64, thumbnail_mpp=4)
    make_tiles(cohort, recipe, folder / "tiles")
    return folder


@pytest.fixture(scope="module")
def directory(phantom) -> TileDirectory:
    return TileDirectory(phantom / "tiles")


@pytest.fixture(scope="module")
def index(directory) -> TileIndex:
    return read_index(directory, list(directory.slides), {})
