"""Jitter of stains and hue, and noise, of images in batched torch."""

from __future__ import annotations

import torch


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


def add_noise(
    x: torch.Tensor, spread: torch.Tensor, seeds: torch.Tensor
) -> torch.Tensor:
    """Add Gaussian noise of deviation ``spread`` [B] to images [B, C, H, W]; clamped.

    Each image has a generator of its own, seeded by ``seeds`` [B], so that its noise
    depends on no other image of the batch.
    """
    generator = torch.Generator(x.device)
    noise = torch.empty_like(x)
    for own, seed in zip(noise, seeds.tolist(), strict=True):
        own.normal_(generator=generator.manual_seed(seed))
    return x.addcmul(noise, spread.to(x.dtype).view(-1, 1, 1, 1)).clamp_(0, 1)
