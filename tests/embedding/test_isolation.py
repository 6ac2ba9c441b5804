import os
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import tifffile

from mshisto_ray.embedding.isolation import IsolatedReader
from mshisto_ray.slides import (
    SlideError,
    open_slide,
)
from mshisto_ray.tiling.pixels import read_tile
from mshisto_ray.tiling.resolution import ScaleReading

READING = ScaleReading(0.5, 0.5, 64.0, 0, 1)

# Python runs this file at its start in every process, children too: reading at
# x = 64 ends the process, at x = 128 it never returns.
POISON = """
import os, signal, time, openslide
read_region = openslide.OpenSlide.read_region
def poisoned(self, location, level, size):
    if location[0] == 64:
        os.kill(os.getpid(), signal.SIGSEGV)
    if location[0] == 128:
        time.sleep(600)
    return read_region(self, location, level, size)
openslide.OpenSlide.read_region = poisoned
"""


@pytest.fixture
def slide(tmp_path):
    rng = np.random.default_rng(0)
    path = tmp_path / "slide.tiff"
    with tifffile.TiffWriter(path) as tiff:
        tiff.write(
            rng.integers(0, 256, (128, 512, 3), dtype=np.uint8),
            tile=(128, 128),
            photometric="rgb",
            compression="jpeg",
        )
    return path


@pytest.fixture
def poison(tmp_path, monkeypatch):
    folder = tmp_path / "poison"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(POISON)
    monkeypatch.setenv("PYTHONPATH", str(folder))


def test_pixels_are_those_of_a_plain_read(slide):
    reader = IsolatedReader(slide, "openslide", 64)
    for x in (0, 64, 448, 480):
        expected = read_tile(open_slide(slide), READING, x, 0, 64)
        np.testing.assert_array_equal(reader(READING, x, 0), expected)
    reader.close()


def test_a_child_that_dies_or_hangs_names_its_tile_and_is_replaced(slide, poison):
    reader = IsolatedReader(slide, "openslide", 64, limit_s=5.0)
    assert reader(READING, 0, 0).shape == (64, 64, 3)
    with pytest.raises(
        SlideError, match=r"ended the process \(exit code -11\)"
    ) as died:
        reader(READING, 64, 0)
    assert died.value.name == "Crash"
    assert reader(READING, 192, 0).shape == (64, 64, 3)
    with pytest.raises(SlideError, match="did not end within 5 s"):
        reader(READING, 128, 0)
    assert reader(READING, 256, 0).shape == (64, 64, 3)
    reader.close()


def test_a_slide_error_in_the_child_is_raised_here(tmp_path):
    path = tmp_path / "x.svs"
    path.write_bytes(b"no slide")
    reader = IsolatedReader(path, "openslide", 64)
    with pytest.raises(SlideError) as caught:
        reader(READING, 0, 0)
    assert caught.value.name == "NotASlide"
    reader.close()


def test_the_watchdog_ends_a_process_that_hangs(slide, poison):
    code = """
    import sys
    from pathlib import Path
    from mshisto_ray.slides._open import Watchdog
    watchdog = Watchdog(limit_s=5.0)
    watchdog.before_end = lambda: print("recorded", flush=True)
    slide = watchdog.open_slide(Path(sys.argv[1]))
    slide.read(0, 0, 0, 64, 64)
    print("read", flush=True)
    slide.read(0, 128, 0, 64, 64)
    print("never", flush=True)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), str(slide)],
        capture_output=True,
        text=True,
        timeout=60,
        env=os.environ.copy(),
        check=False,
    )
    assert done.returncode == 86
    assert done.stdout == "read\nrecorded\n"
