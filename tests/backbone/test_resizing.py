import numpy as np
import pytest
import torch
from torch.nn import functional

from mshisto_ray.backbone import resizing
from mshisto_ray.backbone.transform import InputTransform

# Sums of up to four pixels, of more, and finer than the tile.
CASES = [(256, 224), (256, 200), (250, 90), (256, 336), (64, 64)]


def by_torch(tiles, size, mode):
    batch = tiles.permute(0, 3, 1, 2).contiguous().float()
    if mode is None:
        return functional.interpolate(
            batch, (size, size), mode="bicubic", antialias=True
        )
    for shape in ((batch.shape[-2], size), (size, size)):
        batch = functional.interpolate(batch, shape, mode=mode, antialias=True)
        batch = (batch + 0.5).floor().clamp(0, 255)
    return batch


def make_tiles(height, width):
    made = np.random.default_rng(1).integers(0, 256, (3, height, width, 3), np.uint8)
    return torch.from_numpy(made)


@pytest.mark.parametrize("mode", ["bilinear", "bicubic", None])
@pytest.mark.parametrize(("side", "size"), CASES)
def test_values_are_those_of_torch_to_the_bit(side, size, mode):
    for tiles in (make_tiles(side, side), make_tiles(side, side + 30)):
        transform = InputTransform((0.5,) * 3, (0.25,) * 3, size, "resize", mode)
        wanted = by_torch(tiles, size, mode)
        found = resizing.resize(tiles.permute(0, 3, 1, 2), size, mode)
        assert found.dtype == torch.float32 and torch.equal(found, wanted)
        half, quarter = torch.tensor(0.5) * 255, torch.tensor(0.25) * 255
        kept = tiles.clone()
        assert torch.equal(transform.apply(tiles), (wanted - half) / quarter)
        assert torch.equal(transform.apply(tiles.float()), (wanted - half) / quarter)
        assert torch.equal(tiles, kept)


def test_tiles_of_floats_that_need_no_resizing_stay_as_they_are():
    tiles = make_tiles(64, 64).float()
    kept = tiles.clone()
    InputTransform((0.5,) * 3, (0.5,) * 3, 64, "resize", "bilinear").apply(tiles)
    InputTransform((0.5,) * 3, (0.5,) * 3, 32, "crop").apply(tiles)
    assert torch.equal(tiles, kept)


def test_a_processor_that_adds_otherwise_leaves_resizing_to_torch(monkeypatch):
    def nearly(weights, others, most):
        return [
            (outputs, inputs, block * np.float32(1 + 1e-7))
            for outputs, inputs, block in plain(weights, others, most)
        ]

    plain = resizing._bands
    monkeypatch.setattr(resizing, "_bands", nearly)
    resizing._find_bands.cache_clear()
    tiles = make_tiles(256, 256)
    assert resizing._find_bands(256, 256, 224, "bilinear") is None
    found = resizing.resize(tiles.permute(0, 3, 1, 2), 224, "bilinear")
    assert torch.equal(found, by_torch(tiles, 224, "bilinear"))
    resizing._find_bands.cache_clear()


def test_blocks_are_too_small_to_be_spread_over_threads():
    for num, size, others in ((256, 224, 768), (1024, 224, 3072), (512, 448, 1536)):
        weights = resizing._weights(num, size, "bicubic")
        bands = resizing._bands(weights, others, 16)
        assert [i for out, *_ in bands for i in range(out.start, out.stop)] == [
            *range(size)
        ]
        most = max(block.size for *_, block in bands)
        assert most * others <= resizing.MOST
