"""Augmentation of uint8 tiles in batched torch, one draw per image.

On the CPU a few images are processed at a time, so that their planes stay in the cache
between operations; on a GPU the whole batch is processed at once.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

import numpy as np
import torch
from torch.nn import functional

from mshisto_ray.config import Config, option
from mshisto_ray.training.draws import uniforms

_IMAGES_AT_ONCE = 2
# Luma weights of PIL and torchvision.
_GRAY = (0.2989, 0.587, 0.114)
# Optical density of haematoxylin, eosin and DAB in red, green, blue (Ruifrok and
# Johnston 2001), a row each.
_STAINS = np.array([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11], [0.27, 0.57, 0.78]])
# Uniform numbers drawn per image, whatever is switched on.
_DRAWS = 14


class AugmentConfig(Config):
    """Augmentation of each image, in this order; 0 or false skips a step."""

    flips: bool = option(
        True, "mirror left-right and top-bottom, each with probability 1/2"
    )
    quarter_turns: bool = option(True, "turn by a random multiple of 90 degrees")
    rotation: float = option(
        0.0,
        "largest random rotation, with reflection at the edges",
        "degrees",
        ge=0,
        le=180,
    )
    hed: float = option(
        0.0,
        "stain jitter: haematoxylin, eosin and DAB times 1 +- hed, plus +- hed "
        "of optical density",
        ge=0,
        le=0.5,
    )
    brightness: float = option(0.1, "factor 1 +- brightness", ge=0, le=1)
    contrast: float = option(0.1, "factor 1 +- contrast about mean luma", ge=0, le=1)
    saturation: float = option(0.1, "factor 1 +- saturation about luma", ge=0, le=1)
    hue: float = option(0.03, "turn of HSV hue by +- hue", "turns", ge=0, le=0.5)


@dataclass(frozen=True)
class Parameters:
    """Augmentation parameters of B images, each [B] or [B, ...] on the device.

    ``mirror``: bool [B, 3], left-right, top-bottom, and transposed (before these);
    ``angle``: radians counterclockwise; ``density``: [B, 3, 3] and ``shift`` [B, 3]
    on the optical densities of red, green, blue; ``brightness``, ``contrast``,
    ``saturation``: factors; ``hue``: turns.
    """

    mirror: torch.Tensor
    angle: torch.Tensor
    density: torch.Tensor
    shift: torch.Tensor
    brightness: torch.Tensor
    contrast: torch.Tensor
    saturation: torch.Tensor
    hue: torch.Tensor

    def part(self, images: slice) -> Parameters:
        """The parameters of some of the images."""
        values = (getattr(self, field.name)[images] for field in fields(self))
        return Parameters(*values)


def draw_parameters(
    config: AugmentConfig,
    seed: int,
    step: int,
    num: int,
    device: str | torch.device = "cpu",
) -> Parameters:
    """Draw parameters of ``num`` images; image i's depend on (seed, step, i) only."""
    uniform = uniforms(seed, "augment", step, num, _DRAWS)
    signed = 2 * uniform - 1
    mirror = np.zeros((num, 3), bool)
    if config.flips:
        mirror[:, :2] = uniform[:, :2] < 0.5
    if config.quarter_turns:
        # A quarter turn is a transposition and a flip; two are both flips.
        turns = (4 * uniform[:, 2]).astype(int)
        mirror[:, 2] = turns % 2 == 1
        mirror[:, 0] ^= (turns == 1) | (turns == 2)
        mirror[:, 1] ^= (turns == 2) | (turns == 3)
    amounts = 1 + config.hed * signed[:, 8:11]
    density = np.einsum("is,bs,sj->bji", np.linalg.inv(_STAINS), amounts, _STAINS)
    shift = config.hed * signed[:, 11:14] @ _STAINS
    strengths = np.array([config.brightness, config.contrast, config.saturation])
    factors = 1 + strengths * signed[:, 4:7]

    def tensor(values: np.ndarray) -> torch.Tensor:
        kind = torch.bool if values.dtype == bool else torch.float32
        return torch.from_numpy(values).to(device, kind, non_blocking=True)

    return Parameters(
        tensor(mirror),
        tensor(math.radians(config.rotation) * signed[:, 3]),
        tensor(density),
        tensor(shift),
        tensor(factors[:, 0]),
        tensor(factors[:, 1]),
        tensor(factors[:, 2]),
        tensor(config.hue * signed[:, 7]),
    )


def augment(
    tiles: torch.Tensor,
    config: AugmentConfig,
    parameters: Parameters,
    dtype: torch.dtype = torch.float32,
) -> torch.Tensor:
    """Augment uint8 RGB [B, H, W, 3]; returns [B, 3, H, W] in [0, 1].

    Tiles are square. ``dtype`` is that of the arithmetic.
    """
    if tiles.device.type != "cpu":
        return _augment(tiles, config, parameters, slice(None), dtype)
    num, height, width, _ = tiles.shape
    result = torch.empty((num, 3, height, width), dtype=dtype)
    for start in range(0, num, _IMAGES_AT_ONCE):
        part = slice(start, start + _IMAGES_AT_ONCE)
        result[part] = _augment(tiles[part], config, parameters, part, dtype)
    return result


def _augment(
    tiles: torch.Tensor,
    config: AugmentConfig,
    p: Parameters,
    part: slice,
    dtype: torch.dtype,
) -> torch.Tensor:
    x = tiles.permute(0, 3, 1, 2).contiguous()
    if not config.rotation and (config.flips or config.quarter_turns):
        x = mirror(x, p.mirror[part])
    x = x.to(dtype).mul_(1 / 255)
    if config.rotation:
        x = rotate(x, p.angle[part].to(dtype), p.mirror[part])
    if config.hed:
        x = stain(x, p.density[part].to(dtype), p.shift[part].to(dtype))
    if config.brightness:
        x = (x * _each(p.brightness[part], x)).clamp_(0, 1)
    if config.contrast:
        mean = _luma(x).mean(dim=(1, 2, 3), keepdim=True)
        x = _blend(x, mean, p.contrast[part])
    if config.saturation:
        x = _blend(x, _luma(x), p.saturation[part])
    return turn_hue(x, p.hue[part].to(dtype)) if config.hue else x


def mirror(x: torch.Tensor, how: torch.Tensor) -> torch.Tensor:
    """Transpose images [B, C, S, S], then flip them, where ``how`` [B, 3] is true."""
    across, down, transposed = (flag.view(-1, 1, 1, 1) for flag in how.unbind(1))
    x = torch.where(transposed, x.transpose(2, 3), x)
    x = torch.where(across, x.flip(3), x)
    return torch.where(down, x.flip(2), x)


def rotate(x: torch.Tensor, angle: torch.Tensor, how: torch.Tensor) -> torch.Tensor:
    """Mirror images [B, C, S, S], then rotate them about their centres.

    One bilinear interpolation does both, with reflection at the edges. ``how`` is that
    of ``mirror``.
    """
    num, side = len(x), x.shape[-1]
    at = (2 * torch.arange(side, dtype=x.dtype, device=x.device) + 1) / side - 1
    cos, sin = angle.cos(), angle.sin()
    across, down = (1 - 2 * flag.to(x.dtype) for flag in how[:, :2].unbind(1))
    # Where a pixel is read: a matrix [2, 2] on its column and row.
    read = torch.stack([across * cos, -across * sin, down * sin, down * cos], 1)
    read = read.view(num, 2, 2)
    read = torch.where(how[:, 2, None, None], read.flip(1), read)
    grid = x.new_empty(num, side, side, 2)
    for axis, (by_column, by_row) in enumerate(read.permute(1, 2, 0)[..., None, None]):
        torch.add(by_column * at, by_row * at[:, None], out=grid[..., axis])
    return functional.grid_sample(
        x, grid, mode="bilinear", padding_mode="reflection", align_corners=False
    )


def stain(x: torch.Tensor, density: torch.Tensor, shift: torch.Tensor) -> torch.Tensor:
    """Jitter of stains: linear in optical density, so one 3 x 3 matrix per image.

    Source: Tellez et al. 2019, HED colour augmentation; its separate, scale, shift and
    join steps are multiplied out.
    """
    num, _, height, width = x.shape
    # Below one grey level the logarithm is meaningless.
    od = x.reshape(num, 3, -1).clamp(min=1 / 255).log_().neg_()
    od = torch.baddbmm(shift[:, :, None], density, od)
    return od.neg_().exp_().clamp_(0, 1).view(num, 3, height, width)


def turn_hue(x: torch.Tensor, turn: torch.Tensor) -> torch.Tensor:
    """Rotate the HSV hue of images [B, 3, H, W] by ``turn`` [B], in turns.

    Value and chroma stay; a channel is value - chroma * clip(2 - |k - 2|, 0, 1) with
    k = (n + hue) mod 6, hue in sixths and n = 5, 3, 1 for red, green, blue.
    """
    red, green, blue = x.unbind(1)
    value = torch.maximum(torch.maximum(red, green), blue)
    chroma = value - torch.minimum(torch.minimum(red, green), blue)
    safe = chroma.clamp(min=torch.finfo(x.dtype).tiny)
    hue = torch.where(value == green, 2 * safe + blue - red, 4 * safe + red - green)
    hue = torch.where(value == red, green - blue, hue).div_(safe)
    hue = hue.add_(6 * turn.view(-1, 1, 1))
    result = torch.empty_like(x)
    for channel, n in enumerate((5, 3, 1)):
        k = hue + n
        k -= (k * (1 / 6)).floor_().mul_(6)
        share = k.sub_(2).abs_().neg_().add_(2).clamp_(0, 1)
        torch.addcmul(value, chroma, share, value=-1, out=result[:, channel])
    return result


def _luma(x: torch.Tensor) -> torch.Tensor:
    red, green, blue = x.unbind(1)
    gray = (red * _GRAY[0]).add_(green, alpha=_GRAY[1]).add_(blue, alpha=_GRAY[2])
    return gray[:, None]


def _blend(x: torch.Tensor, base: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
    """The mix ``base + factor * (x - base)``, clamped."""
    return torch.lerp(base, x, _each(factor, x)).clamp_(0, 1)


def _each(factor: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    return factor.to(x.dtype).view(-1, 1, 1, 1)
