"""The page shows the right tiles in the right places, framed by whether they fit."""

import numpy as np
import pytest
from PIL import Image

from mshisto_ray.evaluation.labelled_tiles import LabelConfig
from mshisto_ray.evaluation.labelling import read_labelled_tiles
from mshisto_ray.evaluation.neighbours import Neighbours
from mshisto_ray.evaluation.plan import QuestionConfig, make_plan
from mshisto_ray.reporting.retrieval_sheet import choose_queries, draw_retrieval_sheet
from mshisto_ray.store.tiles import TileDirectory


@pytest.fixture
def plan(stages):
    slides = {f"s{i}": ["A"] * 20 + ["B"] * 16 for i in range(3)}
    tiles = TileDirectory(stages.tiles(slides))
    labelled = read_labelled_tiles(tiles, {}, 0.5, None, LabelConfig(), None)
    return make_plan(labelled, None, QuestionConfig())


def test_every_class_is_shown_and_places_are_spread(plan):
    places = choose_queries(plan)
    labels = plan.labelled.label[plan.retrieval.queries[places]]
    assert labels.tolist() == [0, 0, 0, 0, 1, 1, 1, 1]
    assert set(plan.labelled.tiles.slide[plan.retrieval.queries[places]]) == {0, 1, 2}


def test_tiles_are_in_their_cells_and_frames_show_the_class(plan):
    queries = plan.retrieval.queries
    rows = np.stack(
        [np.roll(np.arange(len(queries)), -1 - i)[queries] for i in range(10)], 1
    )
    rows[0, 3:] = -1
    found = Neighbours(rows, np.ones(rows.shape))
    places = np.array([0, 50])
    shades = {row: (row, 255 - row, 99) for row in range(108) if row != 1}
    pictures = {row: Image.new("RGB", (30, 30), shade) for row, shade in shades.items()}
    page = draw_retrieval_sheet("an encoder", plan, found, places, pictures)
    for line, place in enumerate(places):
        shown = [queries[place], *rows[place, :5]]
        for column, row in enumerate(shown):
            left = 12 + column * 156 + (12 if column else 0)
            top = 64 + line * 190
            frame = page.getpixel((left + 1, top + 1))
            middle = page.getpixel((left + 30, top + 30))
            if row < 0:
                assert frame == middle == (255, 255, 255)
                continue
            assert middle == shades.get(row, (206, 212, 218))
            same = plan.labelled.label[row] == plan.labelled.label[queries[place]]
            if column:
                assert frame == ((0, 114, 178) if same else (213, 94, 0))
