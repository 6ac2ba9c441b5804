"""The published tables of Tan 2023 are what their units say."""

import json
from pathlib import Path

import pytest

from mshisto_ray.jobs import reproduce
from mshisto_ray.studies import tan2023
from mshisto_ray.studies._tan2023_table import levels_of, render

PUBLISHED = Path(__file__).parents[2] / "published"
FOLDERS = sorted(PUBLISHED.glob("tan2023*"))


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_the_table_is_that_of_its_units(folder):
    """``plan.json``: what the study was given, and the cells that have embeddings."""
    plan = json.loads((folder / "plan.json").read_text())
    settings = plan["study"]
    done = {}
    for file in (folder / "units").glob("*.json"):
        done[file.stem] = reproduce._read(file, json.loads(file.read_text()))
    there = {(name, tuple(scales)): [None] for name, scales in plan["cells"]}
    assert len(done) == len(there) * settings["repeats"]
    has_area = any(unit.area is not None for unit in done.values())
    found = render(settings, levels_of(settings), there, has_area, done)
    assert found == (folder / "table.md").read_text()


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_the_plan_has_every_setting(folder):
    plan = json.loads((folder / "plan.json").read_text())
    keys = tan2023.build.__kwdefaults__
    assert keys is not None and set(plan["study"]) == set(keys)
