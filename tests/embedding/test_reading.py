"""All ways of reading give the same answers in the same order."""

import threading
from collections import Counter

import numpy as np
import pytest
import tifffile

from mshisto_ray.embedding.reading import (
    InTurn,
    Isolated,
    SlideSource,
    Threads,
    in_order,
)
from mshisto_ray.slides import (
    SlideError,
)
from mshisto_ray.slides._native import NativeSlide
from mshisto_ray.tiling.resolution import ScaleReading

READINGS = {
    0.5: ScaleReading(0.5, 0.5, 64.0, 0, 1),
    1.0: ScaleReading(1.0, 1.0, 128.0, 0, 2),
}


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A slide of 1,024 px, one of its native tiles damaged."""
    path = tmp_path_factory.mktemp("reading") / "slide.tiff"
    pixels = np.random.default_rng(0).integers(0, 256, (1024, 1024, 3), np.uint8)
    options = {"tile": (128, 128), "photometric": "rgb", "compression": "jpeg"}
    tifffile.imwrite(path, pixels, **options)
    with tifffile.TiffFile(path) as file:
        place, size = file.pages[0].dataoffsets[20], file.pages[0].databytecounts[20]
    with path.open("r+b") as file:
        file.seek(place + 200)
        file.write(b"\xff\xd9" * ((size - 200) // 2))
    return SlideSource(path, "native_tiles", READINGS, 64)


def cells():
    """Every coarse tile after its four fine ones."""
    corners = [(x, y) for y in range(0, 1024, 128) for x in range(0, 1024, 128)]
    return [
        [*((0.5, x + dx, y + dy) for dy in (0, 64) for dx in (0, 64)), (1.0, x, y)]
        for x, y in corners
    ]


def same(one, two):
    if isinstance(one, SlideError) or isinstance(two, SlideError):
        return (type(one), str(one), one.name) == (type(two), str(two), two.name)
    return np.array_equal(one, two)


@pytest.mark.parametrize("make", [lambda: Threads(1), lambda: Threads(3), Isolated])
def test_every_way_gives_what_reading_in_turn_gives(source, make):
    expected = list(InTurn()(source, cells()))
    assert Counter(type(answer) for answer in expected)[SlideError] == 5
    found = list(make()(source, cells()))
    assert len(found) == len(expected) == 5 * 64
    assert all(same(one, two) for one, two in zip(found, expected, strict=True))


def test_no_thread_uses_the_handle_of_another(source, monkeypatch):
    """After an error a handle is opened anew: shared ones would break the others."""
    threads_of = {}
    real = NativeSlide.read

    def read(self, *place):
        threads_of.setdefault(id(self), set()).add(threading.get_ident())
        return real(self, *place)

    monkeypatch.setattr(NativeSlide, "read", read)
    reading = Threads(3)
    for _ in range(2):
        list(reading(source, cells()))
    assert 1 < len(threads_of) <= 3, "handles are kept from chunk to chunk"
    assert all(len(threads) == 1 for threads in threads_of.values())


def test_little_is_read_ahead(source):
    """Two runs a reader wait at most, so memory does not grow with the chunk."""
    submitted = []
    runs = in_order(lambda run: submitted.append(run) or run, cells(), 2)
    for taken, run in enumerate(runs, 1):
        assert len(submitted) - taken <= 4
        assert sum(map(len, run)) <= 35, "about 32 tiles, whole cells"
    assert [cell for run in submitted for cell in run] == cells()


@pytest.mark.parametrize("make", [InTurn, lambda: Threads(2)])
def test_a_slide_that_cannot_be_opened_raises_once(source, tmp_path, make):
    gone = SlideSource(tmp_path / "gone.tiff", "native_tiles", READINGS, 64)
    reading = make()
    with pytest.raises(SlideError) as caught:
        list(reading(gone, cells()))
    assert caught.value.name == "MissingFile"
    assert len(list(reading(source, cells()))) == 5 * 64, "and the next one is read"
