"""The job on phantom slides: what it writes is what augmentation does."""

import numpy as np
import pytest

from mshisto_ray import config as configs
from mshisto_ray.config import InputError
from mshisto_ray.jobs import augmentation
from mshisto_ray.jobs.augmentation import AugmentationConfig
from mshisto_ray.phantom.config import PhantomConfig
from mshisto_ray.phantom.write import write_cohort
from mshisto_ray.representation.differences import read_about, read_differences
from mshisto_ray.tiling.recipe import TilingRecipe

OFF = {"flips": False, "quarter_turns": False, "brightness": 0, "contrast": 0,
       "saturation": 0, "hue": 0, "hed": 0}  # fmt: skip


@pytest.fixture(scope="module")
def tiles(tmp_path_factory, make_tiles):
    folder = tmp_path_factory.mktemp("augmentation")
    drawn = PhantomConfig(
        num_patients=2, slides_per_patient=1, size=2048, colour_matched=False
    )
    cohort = write_cohort(drawn, folder)
    recipe = TilingRecipe(scales=(0.5, 1.0), tile_px=64)
    make_tiles(cohort, recipe, folder / "tiles")
    return folder / "tiles"


def run(tiles, out, **keys):
    raw = {"tiles": tiles, "out": out, "encoder": "colour_stats", "num": 20, **keys}
    config = configs.validate(AugmentationConfig, raw)
    augmentation.check(config)
    augmentation.run(config)
    return read_differences(out).numpy()


def test_only_what_augmentation_changes_differs(tiles, tmp_path):
    out = tmp_path / "new" / "a.safetensors"
    assert not run(tiles, out, augment=OFF).any()
    bright = run(tiles, out, augment={**OFF, "brightness": 0.3}, copies=3)
    assert bright.shape[0] == 60 and np.abs(bright).max() > 0.01
    about = read_about(out)
    assert about["encoder"]["name"] == "colour_stats" and len(about["slides"]) == 2
    kept = read_differences(out, held_out=about["slides"][:1]).numpy()
    assert len(kept) == 30


def test_a_scale_that_is_not_there_is_refused(tiles, tmp_path):
    with pytest.raises(InputError, match="no tiles at 4 um/px"):
        run(tiles, tmp_path / "a", scale=4.0)
