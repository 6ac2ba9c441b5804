"""BLAS and the compiled loop give the same pixels, whatever the order of their sums."""

import math
import os
import subprocess
import sys
from fractions import Fraction

import numpy as np
import pytest

from mshisto_ray.slides import open_slide
from mshisto_ray.tiling import area_average as module
from mshisto_ray.tiling.area_average import area_average

RATIOS = (4 / 3, 1.5, 2, 3, 1.25, 8.1)
STARTS = (0, 0.25, 0.5, 1 / 3)
# One average in a process of its own, by the loop at once.
SCRIPT = """
import hashlib
import numpy as np
from mshisto_ray.tiling import area_average as module
module.LOOP_AFTER = 0
pixels = np.random.default_rng(0).integers(0, 256, (60, 60, 3), dtype=np.uint8)
found = module.area_average(pixels, (0.2, 59.6), (0.2, 59.6), 32)
assert not isinstance(module.compiled_loop(), str), module.compiled_loop()
print(hashlib.sha256(found.tobytes()).hexdigest())
"""


def both(monkeypatch, *args):
    """The average by BLAS and by the loop."""
    assert not isinstance(module.compiled_loop(), str), module.compiled_loop()
    monkeypatch.setattr(module, "LOOP_AFTER", 10**12)
    by_blas = area_average(*args)
    monkeypatch.setattr(module, "LOOP_AFTER", 0)
    return by_blas, area_average(*args)


def rectangles(rng, num):
    """Sides, ratios and starts as slides have them, and as they never do."""
    for _ in range(num):
        side = int(rng.choice([1, 7, 16, 33, 96, 224, 256, 257]))
        ratio = rng.choice([*RATIOS, rng.uniform(1.01, 2.2), rng.uniform(2, 11)])
        starts = [rng.choice([*STARTS, rng.uniform()]) for _ in range(2)]
        yield side, [(float(s), float(s + ratio * side)) for s in starts]


def test_random_rectangles(monkeypatch):
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (2900, 2900, 3), dtype=np.uint8)
    for side, (rows, cols) in rectangles(rng, 120):
        # A view of other lines than its own: memory that is not contiguous.
        pixels = image[: math.ceil(rows[1]), : math.ceil(cols[1])]
        pixels.flags.writeable = False
        by_blas, by_loop = both(monkeypatch, pixels, rows, cols, side)
        np.testing.assert_array_equal(by_blas, by_loop)


@pytest.mark.parametrize("name", ["pdac_trucut_HE3.svs", "crohn_HE4_20x.tiff"])
def test_real_pixels(name, test_data, monkeypatch):
    slide = open_slide(test_data / "slides" / name)
    rng = np.random.default_rng(0)
    level = slide.levels[0]
    for ratio in (1.901, 3.802, 1.0 / 0.526, 2.0 / 0.526):
        for _ in range(4):
            side = math.ceil(256 * ratio) + 1
            x, y = (int(rng.integers(0, n - side)) for n in (level.width, level.height))
            start = rng.uniform()
            span = (start, start + 256 * ratio)
            pixels = slide.read(0, x, y, side, side)
            by_blas, by_loop = both(monkeypatch, pixels, span, span, 256)
            np.testing.assert_array_equal(by_blas, by_loop)
    slide.close()


def test_halves_are_rounded_up(monkeypatch):
    """4 pixels become 3: weights are quarters, and one value in 16 ends in a half."""
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    weights = np.zeros((24, 32), object)
    for i in range(24):
        for k in range(32):
            covered = min(Fraction(4 * i + 4, 3), k + 1) - max(Fraction(4 * i, 3), k)
            weights[i, k] = max(Fraction(0), covered) * Fraction(3, 4)
    lines = (weights @ pixels.astype(object).reshape(32, 96)).reshape(24, 32, 3)
    exact = np.stack([lines[..., c] @ weights.T for c in range(3)], axis=-1)
    assert np.mean([2 * v % 2 == 1 for v in exact.reshape(-1)]) > 0.04
    expected = np.array([math.floor(v + Fraction(1, 2)) for v in exact.reshape(-1)])
    for found in both(monkeypatch, pixels, (0.0, 32.0), (0.0, 32.0), 24):
        np.testing.assert_array_equal(found.reshape(-1), expected)


def test_the_loop_is_loaded_when_it_pays(monkeypatch):
    loaded = []
    monkeypatch.setattr(module, "_averages", iter(range(100)))
    monkeypatch.setattr(module, "LOOP_AFTER", 3)
    monkeypatch.setattr(module, "compiled_loop", lambda: loaded.append(1) or "absent")
    pixels = np.zeros((30, 30, 3), np.uint8)
    for expected in (0, 0, 0, 1, 2):
        area_average(pixels, (0.5, 29.5), (0.5, 29.5), 8)
        assert len(loaded) == expected


def test_without_numba_there_is_blas(monkeypatch):
    for name in ("numba", "mshisto_ray.tiling.area_loop"):
        monkeypatch.setitem(sys.modules, name, None)
    found = module.compiled_loop.__wrapped__()
    assert "numba" in found or "area_loop" in found
    monkeypatch.setattr(module, "compiled_loop", lambda: found)
    monkeypatch.setattr(module, "LOOP_AFTER", 0)
    pixels = np.full((30, 30, 3), 7, np.uint8)
    assert (area_average(pixels, (0.5, 29.5), (0.5, 29.5), 8) == 7).all()


@pytest.mark.slow
def test_processes_that_compile_at_once_share_what_they_keep(tmp_path):
    def start():
        env = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)}
        return subprocess.Popen(
            [sys.executable, "-c", SCRIPT], env=env, stdout=subprocess.PIPE, text=True
        )

    ended = [process.communicate()[0] for process in [start() for _ in range(4)]]
    assert len(set(ended)) == 1 and ended[0]
    kept = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.nb?")}
    assert kept
    assert start().communicate()[0] == ended[0]
    assert {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*.nb?")} == kept
