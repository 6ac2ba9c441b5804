"""From a tiles directory to the batches of a training."""

from pathlib import Path

import numpy as np
import pytest
import torch

from mshisto_ray.components import Part, check
from mshisto_ray.config import InputError
from mshisto_ray.contrastive.pair_batches import PAIRS, pair_batches
from mshisto_ray.slides import (
    open_slide,
)
from mshisto_ray.tiling.pixels import read_tile
from mshisto_ray.tiling.record import readings_of
from mshisto_ray.training.blocks import BlockConfig, plan_block
from mshisto_ray.training.clock import Clock
from mshisto_ray.training.config import TrainingConfig
from mshisto_ray.training.feeding import Feeder
from mshisto_ray.training.pixel_cache import PixelCacheConfig, cached
from mshisto_ray.training.reading import IndexedTileReader, check_slides

RULES = {"same_slide": "negative", "neutral": "negative", "places_per_slide": 16}


def test_the_index_holds_the_tiles_with_tissue_of_their_own(directory, index):
    tiles = np.arange(len(index))
    found = set()
    for t, s in zip(tiles, index.slide(tiles), strict=True):
        mpp = index.scales[index.scale(tiles[t : t + 1])[0]]
        place = int(index.row(tiles[t : t + 1])[0]), int(index.col(tiles[t : t + 1])[0])
        found.add((index.slide_ids[s], mpp, *place))
    wanted = set()
    for slide_id in directory.slides:
        for row in directory.read(slide_id).to_pylist():
            if row["own"]:
                wanted.add((slide_id, row["mpp"], row["row"], row["col"]))
    assert found == wanted
    np.testing.assert_allclose(index.pitch_um, [[32, 64, 128]] * 6)


def test_read_pixels_are_those_of_the_slide(directory, index):
    tiles = np.sort(np.random.default_rng(0).choice(len(index), 40, replace=False))
    held = IndexedTileReader(directory, index, 2)(tiles)
    assert held.readable.all()
    rows = {
        (slide_id, row["mpp"], row["row"], row["col"]): row
        for slide_id in directory.slides
        for row in directory.read(slide_id).to_pylist()
    }
    for place, tile in enumerate(tiles):
        one = np.array([tile])
        record = directory.slides[index.slide_ids[index.slide(one)[0]]]
        reading = readings_of(record)[index.scales[index.scale(one)[0]]]
        key = (reading.mpp, int(index.row(one)[0]), int(index.col(one)[0]))
        row = rows[record["slide_id"], *key]
        slide = open_slide(Path(record["path"]), record["reader"])
        pixels = read_tile(slide, reading, row["x"], row["y"], 64)
        slide.close()
        np.testing.assert_array_equal(held.pixels[place], pixels)


def test_blocks_are_whole_neighbourhoods_of_some_slides(index):
    blocks = BlockConfig(tiles=300, slides=3, window_um=250)
    slides = set()
    for number in range(8):
        chosen = plan_block(index, blocks, 0, number)
        np.testing.assert_array_equal(chosen, plan_block(index, blocks, 0, number))
        assert (np.diff(chosen) > 0).all() and 100 < len(chosen) < 900
        assert len(np.unique(index.slide(chosen))) == 3
        slides |= set(index.slide(chosen))
        # Every child of a tile that is held is held too.
        held = set(chosen)
        main = chosen[index.scale(chosen) == 1]
        start, stop = index.run(
            index.layer(main)[:, None] - 1,
            2 * index.row(main)[:, None] + np.arange(2),
            2 * index.col(main)[:, None],
            2 * index.col(main)[:, None] + 1,
        )
        for a, b in zip(start.ravel(), stop.ravel(), strict=True):
            assert set(range(a, b)) <= held
    assert slides == set(range(6))
    assert len(plan_block(index, BlockConfig(tiles=10**6), 0, 0)) == len(index)


def test_batches_are_the_same_from_any_step_on_and_with_a_cache(
    directory, index, tmp_path
):
    pairs = check(PAIRS, Part.model_validate({"name": "multi_scale", **RULES}))

    def batches(start, stop, **cache):
        settings = PixelCacheConfig(dir=tmp_path, **cache)
        config = TrainingConfig(
            tiles=directory.path,
            out=tmp_path,
            batch_size=16,
            blocks=BlockConfig(tiles=200, slides=3, window_um=200, reuse=0.2),
            seed=7,
        )
        feeder = Feeder(
            index,
            cached(IndexedTileReader(directory, index, 2), len(index), 64, settings),
            pair_batches(pairs, 16, None),
            config,
            slice(0, 16),
            Clock(torch.device("cpu")),
        )
        return list(feeder(start, stop))

    whole, later = batches(0, 9), batches(4, 9)
    assert len(whole) == 9 and len(later) == 5
    assert not batches(9, 9)  # of a training that is complete
    for one, two in zip(whole[4:], later, strict=True):
        assert torch.equal(one.images, two.images)
        assert all(map(torch.equal, one.targets, two.targets))
    assert not torch.equal(whole[0].images, whole[1].images)
    for one, two in zip(whole, batches(0, 9, max_gib=0.01), strict=True):
        assert torch.equal(one.images, two.images)
        assert all(map(torch.equal, one.targets, two.targets))


def test_changed_and_unreadable_slides(directory, index, tmp_path):
    record = dict(directory.slides["slide_0000"])
    other = dict(directory.slides["slide_0001"])
    tiles = np.flatnonzero(index.slide(np.arange(len(index))) < 2)
    held = directory.slides
    try:
        directory.slides = {**held, "slide_0000": {**record, "path": other["path"]}}
        with pytest.raises(InputError, match="is not the file that was tiled"):
            IndexedTileReader(directory, index, 1)(tiles)
        gone = {**record, "path": str(tmp_path / "gone.tiff")}
        directory.slides = {**held, "slide_0000": gone}
        few = np.concatenate([tiles[:5], tiles[-50:]])
        read = IndexedTileReader(directory, index, 1)(few)
        assert (~read.readable).sum() == 5
        with pytest.raises(InputError, match=r"5 of 5 tiles cannot be read.*gone.tiff"):
            IndexedTileReader(directory, index, 1)(few[:5])
    finally:
        directory.slides = held


def test_slides_that_have_moved_are_refused(directory, tmp_path, monkeypatch):
    check_slides(directory)
    record = directory.slides["slide_0000"]
    gone = {**record, "path": str(tmp_path / "gone.tiff")}
    monkeypatch.setitem(directory.slides, "slide_0000", gone)
    with pytest.raises(InputError, match=r"1 of 6 slides are not where.*gone\.tiff"):
        check_slides(directory)
