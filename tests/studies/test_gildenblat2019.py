"""Distances and retrieval of drawn tiles whose answers are known."""

import json
from pathlib import Path

import numpy as np
import pytest

from mshisto_ray import config as configs
from mshisto_ray.config import InputError
from mshisto_ray.jobs import reproduce
from mshisto_ray.jobs.reproduce import ReproduceConfig
from mshisto_ray.studies import gildenblat2019

PUBLISHED = Path(__file__).parents[2] / "published" / "gildenblat2019"
# 6 x 6 tiles a slide; the upper third is tumour.
CLASSES = ["tumor"] * 12 + [None] * 24
SLIDES = [f"s{i}" for i in range(12)]


def place(table):
    """Tiles near each other are alike; of tumour, those of all slides."""
    row, col = (table[name].to_numpy().astype(float) for name in ("row", "col"))
    number = float(table["slide_id"][0].as_py()[1:])
    return np.stack([row + 5, col / 3, np.full(len(row), number / 20)], axis=1)


def noise(table):
    rng = np.random.default_rng(int(table["slide_id"][0].as_py()[1:]))
    return rng.normal(size=(table.num_rows, 3))


@pytest.fixture
def data(stages, tmp_path):
    patients = {name: f"p{i // 2}" for i, name in enumerate(SLIDES)}
    tiles = stages.tiles(dict.fromkeys(SLIDES, CLASSES), patients=patients)
    (tmp_path / "data" / "embeddings").mkdir(parents=True)
    (tmp_path / "data" / "tiles").symlink_to(tiles)
    for name, embed in (("place", place), ("noise", noise)):
        made = stages.embeddings(embed, name)
        (tmp_path / "data" / "embeddings" / name).symlink_to(made)
    return tmp_path / "data"


def run(data, out):
    study = {
        "name": "gildenblat2019",
        "encoders": ["place", "noise"],
        "near_um": 60,
        "far_um": 150,
        "normalise": False,
    }
    raw = {"study": study, "data": data, "out": out}
    reproduce.run(configs.validate(ReproduceConfig, raw))
    return (out / "table.md").read_text()


def test_tables_show_what_was_drawn(data, tmp_path):
    text = run(data, tmp_path / "out")
    units = {p.stem for p in (tmp_path / "out" / "units").glob("*.json")}
    assert units == {
        f"{name}-other_{other}s"
        for name in ("place", "noise")
        for other in ("slide", "patient")
    }
    found = json.loads(
        (tmp_path / "out" / "units" / "place-other_slides.json").read_text()
    )
    assert found["extras"]["addr_spatial"] > 1.5  # near tiles are alike
    assert found["extras"]["tiles"] == 12 * 36
    # Every tumour tile has one of its row and column on another slide.
    assert "| place | 100.0% (100.0% to 100.0%) | 100.0%" in text
    chance = 11 * 12 / (11 * 36)
    row = next(r for r in text.splitlines() if r.startswith("| noise | ") and "%" in r)
    assert f"{chance:.1%}" in row and "| 144 |" in row
    noise_unit = json.loads(
        (tmp_path / "out" / "units" / "noise-other_patients.json").read_text()
    )
    assert 0.9 < noise_unit["extras"]["addr_spatial"] < 1.1


def test_published_tables_are_those_of_their_units():
    plan = json.loads((PUBLISHED / "plan.json").read_text())
    done = {}
    for file in (PUBLISHED / "units").glob("*.json"):
        done[file.stem] = reproduce._read(file, json.loads(file.read_text()))
    assert len(done) == 2 * len(plan["encoders"])
    found = gildenblat2019.render(plan["encoders"], done)
    assert found == (PUBLISHED / "table.md").read_text()


def test_what_does_not_fit_is_refused(data, tmp_path):
    with pytest.raises(InputError, match="data: no tiles in"):
        gildenblat2019.build(tmp_path / "absent")
    with pytest.raises(InputError, match=r"no embeddings in .*imagenet"):
        gildenblat2019.build(data)
    study = gildenblat2019.build(data, encoders=("place",), tumour="cancer")
    with pytest.raises(InputError, match="no tile is of class 'cancer'"):
        study.units()[0].run()
