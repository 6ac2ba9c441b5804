import itertools

import numpy as np
import pytest

from mshisto_ray.slides import (
    Level,
)
from mshisto_ray.tiling.grid import plan_tiles, tissue_shares
from mshisto_ray.tiling.resolution import resolve

SCALES = (0.5, 1.0, 2.0)


def make_plan(mask, span=16.0, size=None, mpp=0.5, threshold=0.5, chunk_tiles=8):
    size = size or (int(mask.shape[1] * span), int(mask.shape[0] * span))
    readings = resolve(mpp, (Level(*size, 1.0),), SCALES, 64, 0.02)
    return plan_tiles(mask, span, size, readings, threshold, chunk_tiles)


def blob_mask(seed, shape=(57, 41)):
    rng = np.random.default_rng(seed)
    return (
        rng.random((shape[0] // 4 + 1, shape[1] // 4 + 1))
        .repeat(4, 0)
        .repeat(4, 1)[: shape[0], : shape[1]]
        > 0.6
    )


def share_by_loop(mask, span, size, x, y, extent):
    """Area of mask pixels under the tile and inside the slide, pixel by pixel."""
    right, bottom = min(x + extent, size[0]), min(y + extent, size[1])
    total = 0.0
    for i in range(mask.shape[0]):
        high = max(0.0, min(bottom, (i + 1) * span) - max(y, i * span))
        for j in range(mask.shape[1]):
            wide = max(0.0, min(right, (j + 1) * span) - max(x, j * span))
            total += mask[i, j] * high * wide
    return total / extent**2


@pytest.mark.parametrize(("span", "extent"), [(16.0, 64.0), (15.9, 61.7), (8.0, 70.3)])
def test_shares_equal_a_loop_over_mask_pixels(span, extent):
    mask = blob_mask(0, (23, 19))
    size = (int(19 * span), int(23 * span))
    shares = tissue_shares(mask, span, size, extent, 4)
    assert shares.shape[0] % 4 == 0
    for row in range(shares.shape[0]):
        for col in range(shares.shape[1]):
            expected = share_by_loop(
                mask, span, size, col * extent, row * extent, extent
            )
            assert shares[row, col] == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("mpp", [0.5, 0.263, 0.4643])
def test_every_planned_tile_has_its_parents_and_own_is_by_threshold(seed, mpp):
    plans = make_plan(blob_mask(seed), mpp=mpp)
    assert len(plans[0].row)
    for fine, coarse in itertools.pairwise(plans):
        parents = set(zip(coarse.row.tolist(), coarse.col.tolist(), strict=True))
        children = {(r // 2, c // 2) for r, c in zip(fine.row, fine.col, strict=True)}
        assert children <= parents
        for row, col, own in zip(coarse.row, coarse.col, coarse.own, strict=True):
            assert own or (row, col) in children
    for plan in plans:
        np.testing.assert_array_equal(plan.own, plan.tissue >= 0.5 - 1e-6)


def test_a_parents_share_is_the_mean_of_its_children():
    plans = make_plan(blob_mask(1), threshold=1e-6)
    fine, coarse = plans[0], plans[1]
    share = dict(zip(zip(fine.row, fine.col, strict=True), fine.tissue, strict=True))
    for row, col, tissue in zip(coarse.row, coarse.col, coarse.tissue, strict=True):
        children = [
            share.get((2 * row + i, 2 * col + j), 0.0) for i in (0, 1) for j in (0, 1)
        ]
        assert tissue == pytest.approx(np.mean(children), abs=1e-6)


def test_positions_are_rounded_multiples_of_the_extent_in_raster_order():
    for plan in make_plan(blob_mask(2), mpp=0.263):
        extent = plan.reading.extent
        assert np.abs(plan.x - plan.col * extent).max() <= 0.5
        assert np.abs(plan.y - plan.row * extent).max() <= 0.5
        order = np.lexsort((plan.col, plan.row))
        np.testing.assert_array_equal(order, np.arange(len(order)))


def test_chunks_are_whole_cells_in_raster_order_and_bounded():
    plans = make_plan(blob_mask(3, (97, 81)), chunk_tiles=20)
    cell_of_chunk = {}
    for plan, ratio in zip(plans, (1, 2, 4), strict=True):
        for row, col, chunk in zip(plan.row, plan.col, plan.chunk, strict=True):
            cell = (row * ratio // 4, col * ratio // 4)
            assert cell_of_chunk.setdefault(cell, chunk) == chunk
    cells = sorted(cell_of_chunk)
    chunks = [cell_of_chunk[cell] for cell in cells]
    assert chunks == sorted(chunks)
    assert sorted(set(chunks)) == list(range(max(chunks) + 1))
    counts = np.bincount(plans[0].chunk)
    assert counts.max() <= 20
    # No two neighbours would have fitted into one.
    first_cells = [chunks.index(c) for c in range(1, max(chunks) + 1)]
    per_cell = {
        cell: int(
            ((plans[0].row // 4 == cell[0]) & (plans[0].col // 4 == cell[1])).sum()
        )
        for cell in cells
    }
    for chunk, start in enumerate(first_cells):
        assert counts[chunk] + per_cell[cells[start]] > 20


def test_a_cell_larger_than_a_chunk_is_kept_whole():
    plans = make_plan(np.ones((32, 32), bool), chunk_tiles=1)
    assert np.bincount(plans[0].chunk).tolist() == [16, 16, 16, 16]


def test_outside_counts_as_glass():
    # 100 px wide, tiles of 64: the second column is 36/64 tissue.
    plans = make_plan(np.ones((100, 100), bool), span=1.0)
    share = dict(
        zip(
            zip(plans[0].row.tolist(), plans[0].col.tolist(), strict=True),
            plans[0].tissue.tolist(),
            strict=True,
        )
    )
    assert share[0, 1] == pytest.approx(36 / 64)
    assert (1, 1) not in share  # (36/64)**2 < .5


def test_no_tissue_plans_nothing():
    assert [len(p.row) for p in make_plan(np.zeros((30, 30), bool))] == [0, 0, 0]


@pytest.mark.parametrize("seed", range(3))
def test_coverage_is_the_share_of_mask_pixels_inside_own_tiles(seed):
    mask = blob_mask(seed)
    span, size = 16.0, (41 * 16, 57 * 16)
    for plan in make_plan(mask, span):
        extent = plan.reading.extent
        inside = sum(
            share_by_loop(mask, span, size, x, y, extent) * extent**2
            for x, y in zip(plan.x[plan.own], plan.y[plan.own], strict=True)
        )
        assert plan.coverage == pytest.approx(inside / (mask.sum() * span**2), abs=1e-6)


def test_a_narrow_core_is_covered_less_by_wide_tiles():
    mask = np.zeros((96, 96), bool)
    mask[:, 10:16] = True  # 6 of 4, 8 and 16 pixels wide tiles
    found = {plan.reading.mpp: plan.coverage for plan in make_plan(mask)}
    assert found[0.5] == pytest.approx(1.0)
    assert found[0.5] >= found[1.0] > found[2.0]
    assert {m: c.coverage for m, c in ((p.reading.mpp, p) for p in make_plan(
        mask, threshold=0.1))}[2.0] == pytest.approx(1.0)  # fmt: skip
    assert all(p.coverage == 0 for p in make_plan(np.zeros((9, 9), bool)))
