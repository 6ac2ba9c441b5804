import dataclasses

import numpy as np
import pytest
import torch
from torchvision.transforms.v2 import functional as reference

from mshisto_ray.training.augment import AugmentConfig, augment, draw_parameters
from mshisto_ray.training.draws import uniforms

NOTHING = {
    "flips": False,
    "quarter_turns": False,
    "rotation": 0,
    "zoom": 0,
    "shear": 0,
    "hed": 0,
    "brightness": 0,
    "contrast": 0,
    "saturation": 0,
    "hue": 0,
    "noise": 0,
}
STRONG = {
    "flips": True,
    "quarter_turns": True,
    "rotation": 40,
    "zoom": 0.3,
    "shear": 25,
    "hed": 0.1,
    "brightness": 0.3,
    "contrast": 0.3,
    "saturation": 0.3,
    "hue": 0.2,
    "noise": 0.05,
}


@pytest.fixture
def tiles():
    """Smooth pink and violet fields with noise, some pure white and pure grey."""
    generator = np.random.default_rng(0)
    grid = np.linspace(0, 4, 24)
    waves = np.sin(grid[:, None] + grid + np.arange(5)[:, None, None])[..., None]
    base = np.array([200, 140, 190]) + waves * np.array([40, 90, 50])
    values = base + generator.normal(0, 8, (5, 24, 24, 3))
    values[0, :9] = 255
    values[1, :9] = 100
    return torch.from_numpy(values.clip(0, 255).astype(np.uint8))


def warped(image, angle, zoom, slant):
    """Bilinear, mirrored about the edges, pixel by pixel; image [H, W, 3].

    The image is slanted after it was enlarged, and rotated last, so that a pixel is
    looked for the other way round.
    """
    side = len(image)

    def at(row, col):
        row, col = (v % (2 * side) for v in (row, col))
        return image[min(row, 2 * side - 1 - row), min(col, 2 * side - 1 - col)]

    result = np.zeros_like(image)
    middle = (side - 1) / 2
    for i in range(side):
        for j in range(side):
            y, x = i - middle, j - middle
            x = x + slant * y
            row = (np.sin(angle) * x + np.cos(angle) * y) / zoom + middle
            col = (np.cos(angle) * x - np.sin(angle) * y) / zoom + middle
            r, c = int(np.floor(row)), int(np.floor(col))
            a, b = row - r, col - c
            top = (1 - b) * at(r, c) + b * at(r, c + 1)
            low = (1 - b) * at(r + 1, c) + b * at(r + 1, c + 1)
            result[i, j] = (1 - a) * top + a * low
    return result


def alone(tile, config, p, i, dtype):
    """One image through numpy and torchvision's functions, one step at a time."""
    x = tile.numpy().astype(np.float64) / 255
    across, down, transposed = p.mirror[i].tolist()
    x = x.transpose(1, 0, 2) if transposed else x
    x = x[:, ::-1] if across else x
    x = x[::-1] if down else x
    if config.rotation or config.zoom or config.shear:
        x = warped(x, p.angle[i].item(), p.zoom[i].item(), p.slant[i].item())
    if config.hed:
        od = -np.log(np.maximum(x, 1 / 255))
        x = np.exp(-(od @ p.density[i].double().numpy().T + p.shift[i].numpy()))
    x = torch.from_numpy(x.clip(0, 1).copy()).permute(2, 0, 1)
    x = reference.adjust_brightness(x, p.brightness[i].item())
    x = reference.adjust_contrast(x, p.contrast[i].item())
    x = reference.adjust_saturation(x, p.saturation[i].item())
    x = reference.adjust_hue(x, p.hue[i].item())
    generator = torch.Generator().manual_seed(p.noise_seed[i].item())
    noise = torch.empty(x.shape, dtype=dtype).normal_(generator=generator)
    return (x + p.noise[i].item() * noise).clamp(0, 1)


@pytest.mark.parametrize("key", [*NOTHING, "all"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_equals_one_image_at_a_time(key, dtype, tiles):
    keys = STRONG if key == "all" else {**NOTHING, key: STRONG[key]}
    config = AugmentConfig(**keys)
    p = draw_parameters(config, 0, 0, len(tiles))
    found = augment(tiles, config, p, dtype)
    assert found.dtype == dtype and found.shape == (5, 3, 24, 24)
    for i, tile in enumerate(tiles):
        difference = (found[i].double() - alone(tile, config, p, i, dtype)).abs().max()
        assert difference < 1e-5


def test_nothing_is_the_tile(tiles):
    config = AugmentConfig(**NOTHING)
    found = augment(tiles, config, draw_parameters(config, 0, 0, 5))
    torch.testing.assert_close(found, tiles.permute(0, 3, 1, 2) / 255)


def test_stain_matrix_is_separate_scale_shift_and_join():
    config = AugmentConfig(**{**NOTHING, "hed": 0.2})
    p = draw_parameters(config, 1, 2, 1)
    stains = np.array([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11], [0.27, 0.57, 0.78]])
    uniform = 2 * np.random.default_rng(0).random((6, 3))
    amount = uniform @ np.linalg.inv(stains)
    # Recover the draws from the folded matrix: it is diagonal between stain spaces.
    folded = stains @ p.density[0].double().numpy().T @ np.linalg.inv(stains)
    np.testing.assert_allclose(folded, np.diag(np.diag(folded)), atol=1e-5)
    assert (abs(np.diag(folded) - 1) <= 0.2).all()
    wanted = (amount * np.diag(folded)) @ stains
    np.testing.assert_allclose(
        uniform @ p.density[0].double().numpy().T, wanted, atol=1e-5
    )


def test_draws_do_not_depend_on_the_size_of_the_batch():
    config = AugmentConfig(**STRONG)
    many, few = (draw_parameters(config, 5, 3, num) for num in (64, 9))
    for field in dataclasses.fields(many):
        whole, part = getattr(many, field.name), getattr(few, field.name)
        torch.testing.assert_close(whole[:9], part)
        assert len(torch.unique(whole, dim=0)) > 1
    other = draw_parameters(config, 5, 4, 64)
    assert not torch.equal(other.brightness, many.brightness)


def test_all_eight_symmetries_occur_evenly():
    config = AugmentConfig()
    p = draw_parameters(config, 0, 0, 8000)
    code = p.mirror.long() @ torch.tensor([1, 2, 4])
    counts = torch.bincount(code, minlength=8)
    assert (counts > 850).all() and (counts < 1150).all()


def test_quarter_turns_alone_never_mirror():
    config = AugmentConfig(**{**NOTHING, "quarter_turns": True})
    image = torch.arange(27, dtype=torch.uint8).view(1, 3, 3, 3)
    p = draw_parameters(config, 0, 0, 64)
    found = augment(image.expand(64, 3, 3, 3), config, p).mul(255).round()
    plane = image[0].permute(2, 0, 1).float()
    turns = [torch.rot90(plane, k, (1, 2)) for k in range(4)]
    seen = {next(k for k in range(4) if torch.equal(f, turns[k])) for f in found}
    assert seen == {0, 1, 2, 3}


def test_stain_jitter_is_that_of_each_stain():
    """Densities parted into stains, each scaled and shifted, and joined again."""
    rng = np.random.default_rng(0)
    tiles = torch.from_numpy(rng.integers(1, 256, (4, 8, 8, 3), dtype=np.uint8))
    config = AugmentConfig(**{**NOTHING, "hed": 0.2})
    found = augment(tiles, config, draw_parameters(config, 3, 7, 4)).numpy()
    signed = 2 * uniforms(3, "augment", 7, 4, 14) - 1
    stains = np.array([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11], [0.27, 0.57, 0.78]])
    for image, numbers, got in zip(tiles.numpy(), signed, found, strict=True):
        parts = -np.log(image / 255) @ np.linalg.inv(stains)
        parts = parts * (1 + 0.2 * numbers[8:11]) + 0.2 * numbers[11:14]
        wanted = np.exp(-parts @ stains).clip(0, 1)
        np.testing.assert_allclose(got.transpose(1, 2, 0), wanted, atol=1e-5)


def test_noise_has_the_deviation_that_was_drawn():
    config = AugmentConfig(**{**NOTHING, "noise": 0.1})
    grey = torch.full((6, 96, 96, 3), 128, dtype=torch.uint8)
    p = draw_parameters(config, 0, 0, 6)
    noise = augment(grey, config, p) - 128 / 255
    torch.testing.assert_close(noise.std((1, 2, 3)), p.noise, rtol=0.03, atol=0)
    assert p.noise.max() <= 0.1 and p.noise.unique().numel() == 6
    # Noise of an image does not depend on those beside it.
    last = augment(grey[5:], config, p.part(slice(5, None)))
    torch.testing.assert_close(last[0] - 128 / 255, noise[5])


def test_enlargement_and_slant_are_even_about_none():
    config = AugmentConfig(**{**NOTHING, "zoom": 0.25, "shear": 20})
    p = draw_parameters(config, 0, 0, 4000)
    assert p.zoom.max() <= 1.25 and p.zoom.min() >= 0.8
    assert abs(p.zoom.log().mean()) < 0.01 and abs(p.slant.mean()) < 0.02
    assert p.slant.abs().max() <= np.tan(np.radians(20))


def test_steps_that_came_later_are_in_the_recipe_only_where_they_are_on():
    assert set(AugmentConfig().as_recipe()) == set(NOTHING) - {"zoom", "shear", "noise"}
    assert AugmentConfig(shear=3).as_recipe()["shear"] == 3


def test_values_stay_in_range(tiles):
    config = AugmentConfig(**STRONG)
    many = tiles.repeat(20, 1, 1, 1)
    found = augment(many, config, draw_parameters(config, 9, 0, 100))
    assert found.min() >= 0 and found.max() <= 1 and torch.isfinite(found).all()
