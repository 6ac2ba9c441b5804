"""Parts that other packages install, by entry points."""

import os
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import torch

from mshisto_ray import components
from mshisto_ray import config as configs
from mshisto_ray.config import InputError
from mshisto_ray.help import help_text
from mshisto_ray.learning.split import SplitConfig
from mshisto_ray.mil.fit.config import TrainConfig
from mshisto_ray.mil.fit.cross_validation import cross_validate
from mshisto_ray.mil.fit.splits import plan_splits
from mshisto_ray.mil.model import POOLINGS
from mshisto_ray.slides import FAMILY as SLIDES
from mshisto_ray.store.cohort import CohortSlide
from mshisto_ray.tiling.recipe import TilingRecipe
from mshisto_ray.tiling.slide import tile_slide

ENTRY_POINTS = """
[mshisto_ray.poolings]
first = other_parts.first
broken = other_parts.broken
empty = other_parts
attention = other_parts.first
[mshisto_ray.noises]
shift = other_parts.shift
[mshisto_ray.slides]
array = other_parts.array
broken = other_parts.broken
"""
MODULES = {
    "__init__": "",
    "broken": "import no_such_module",
    "first": """
        import torch
        from mshisto_ray.mil.poolings import Pooled, log_probabilities

        class First(torch.nn.Module):
            def __init__(self, dim):
                super().__init__()
                self.classifier = torch.nn.Linear(dim, 1)

            def forward(self, h, offsets):
                return Pooled(log_probabilities(self.classifier(h[offsets[:-1]])))

        def notes(sizes):
            return ["only the first of each bag is seen"]

        def build(dim, num_classes, *, unused: int = 1):
            return First(dim)
        """,
    "shift": """
        def build(space, *, by: float = 0.0):
            return lambda values, generator: values + by
        """,
    "array": """
        import numpy as np
        from mshisto_ray.slides import Level, SlideError

        class Array:
            mpp, vendor, objective = 0.5, "array", None

            def __init__(self, path):
                self.pixels = np.load(path)
                self.levels = (Level(*self.pixels.shape[1::-1], 1.0),)

            def read(self, level, x, y, width, height):
                out = np.full((height, width, 3), 255, np.uint8)
                found = self.pixels[y : y + height, x : x + width]
                out[: found.shape[0], : found.shape[1]] = found
                return out

            def close(self):
                pass

        def opens(path):
            return path.suffix == ".npy"

        def build(path):
            if not path.exists():
                raise SlideError("MissingFile", "gone")
            return Array(path)
        """,
}


@pytest.fixture
def site(tmp_path, monkeypatch):
    """A folder on Python's path with an installed package."""
    folder = tmp_path / "site"
    about = folder / "other_parts-1.0.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: other-parts\n")
    (about / "entry_points.txt").write_text(ENTRY_POINTS)
    (folder / "other_parts").mkdir()
    for name, text in MODULES.items():
        (folder / "other_parts" / f"{name}.py").write_text(textwrap.dedent(text))
    monkeypatch.syspath_prepend(folder)
    yield folder
    for name in [m for m in sys.modules if m.split(".")[0] == "other_parts"]:
        del sys.modules[name]


def settings(pooling, **keys):
    raw = {"pooling": {"name": pooling}, "hidden": [], "early_stopping": None, **keys}
    return configs.validate(TrainConfig, raw)


def test_they_are_listed_and_none_is_imported(site):
    found = components.available(POOLINGS)
    assert {"first", "broken", "gated_attention"} <= set(found)
    assert found == sorted(set(found))
    assert "other_parts" not in sys.modules


def test_a_config_trains_with_a_pooling_and_a_noise_of_another_package(site, planted):
    noise = {"name": "shift", "by": 0.5}
    given = settings("first", epochs=2, noise=noise)
    assert given.pooling.parameters == {"unused": 1}
    bags = planted(num=24)
    splits = plan_splits(bags, SplitConfig(folds=3), given)
    found = cross_validate(bags, splits, given, torch.device("cpu"))
    assert len(found.test.bag) == 24
    assert components.declaration(POOLINGS, "first", "notes", None)([3])


def test_what_cannot_be_used_is_one_line_when_it_is_used(site):
    for name, said in (
        ("attention", "'attention' in poolings is a part of mshisto_ray and of "
                      "other-parts: uninstall other-parts, or give its part another"),
        ("broken", "'broken' in poolings, from the package other-parts: "
                   "ModuleNotFoundError: No module named 'no_such_module'"),
        ("empty", "from the package other-parts: other_parts has no function `build`"),
    ):  # fmt: skip
        with pytest.raises(InputError, match=said) as caught:
            settings(name)
        assert "\n" not in str(caught.value)
    assert settings("gated_attention").pooling.parameters["hidden"] == 128


def test_help_lists_them_too(site):
    text = help_text(TrainConfig, "Do.")
    assert "{name: first, unused: 1}" in text and "{name: shift, by: 0}" in text
    assert "{name: broken}: cannot be used: 'broken' in poolings, from the" in text
    assert "auto | array | broken | flat" in help_text(TilingRecipe, "Do.")


def test_a_reader_of_another_package_tiles_what_openslide_does_not_open(site, tmp_path):
    pixels = np.full((512, 768, 3), 240, np.uint8)
    pixels[100:400, 100:600] = (200, 120, 180)
    np.save(tmp_path / "a.npy", pixels)
    row = CohortSlide("a", "a", tmp_path / "a.npy", None, None, {})
    keys = {"scales": (0.5,), "tile_px": 64}
    found = tile_slide(row, TilingRecipe(**keys))
    assert (found.record["reader"], found.record["vendor"]) == ("array", "array")
    assert "which OpenSlide does not open" in found.record["reader_reason"]
    named = tile_slide(row, TilingRecipe(**keys, reader="array"))
    assert named.tiles == found.tiles


def test_a_worker_process_finds_them(site, tmp_path):
    np.save(tmp_path / "a.npy", np.full((9, 9, 3), 7, np.uint8))
    code = (
        "import sys; from pathlib import Path; from mshisto_ray.slides import *\n"
        "print(open_slide(Path(sys.argv[1])).read(0, 0, 0, 2, 2).sum())\n"
        "print(open_slide(Path(sys.argv[1]), 'array').read(0, 0, 0, 1, 1).sum())"
    )
    found = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "a.npy")],
        env=os.environ | {"PYTHONPATH": str(site)},
        stdout=subprocess.PIPE, text=True, check=True,
    )  # fmt: skip
    assert found.stdout.split() == ["84", "21"]


def test_a_reader_whose_package_is_gone_is_told_as_that_slides_failure(tmp_path):
    from mshisto_ray.slides import SlideError, open_slide

    with pytest.raises(SlideError, match="no 'array' in slides; have flat_image"):
        open_slide(tmp_path / "a.npy", "array")
    assert "array" not in components.available(SLIDES)
