"""Bags of small images: an instance network and a pooling, trained end to end."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from mshisto_ray import components
from mshisto_ray.components import Part
from mshisto_ray.learning.metrics import auroc
from mshisto_ray.mil.model import POOLINGS
from mshisto_ray.mil.poolings import (
    Pooled,
)
from mshisto_ray.training.augment import AugmentConfig, draw_parameters
from mshisto_ray.training.recolour import stain


@dataclass(frozen=True)
class ImageBags:
    """B bags of N images.

    ``images``: uint8 [N, h, w, c]; ``instance``: whether an image is a positive one,
    bool [N]; ``offsets``: int64 [B + 1]; ``targets``: int64 [B].
    """

    images: np.ndarray
    instance: np.ndarray
    offsets: np.ndarray
    targets: np.ndarray


@dataclass(frozen=True)
class ImageTraining:
    """Adam with betas (0.9, 0.999), one bag per step.

    ``flips``: each image of a training bag flipped and turned by quarters at random;
    ``colour``: each bag's stains jittered by this share (see ``augment.stain``).
    """

    lr: float
    weight_decay: float
    epochs: int
    flips: bool
    colour: float = 0.0

    def as_recipe(self) -> dict[str, Any]:
        """What decides a result: all values, those that are off left out."""
        values = dataclasses.asdict(self)
        return {k: v for k, v in values.items() if k != "colour" or v}


class ImageModel(nn.Module):
    """Network, then pooling, of images standardised per channel by ``mean``, ``std``.

    Channels lie last in memory, where convolutions and poolings of few channels are
    fastest on CPUs; results are those of any other layout, to rounding.
    """

    def __init__(
        self,
        network: nn.Module,
        width: int,
        pooling: str,
        mean: torch.Tensor,
        std: torch.Tensor,
    ):
        super().__init__()
        self.network = network.to(memory_format=torch.channels_last)
        part = components.check(POOLINGS, Part(name=pooling))
        self.pooling: nn.Module = components.build(POOLINGS, part, width, 2)
        self.mean, self.std = nn.Buffer(mean), nn.Buffer(std)

    def standardise(self, images: np.ndarray) -> torch.Tensor:
        """Images uint8 [N, h, w, c] as ``forward`` takes them, where the model is."""
        pixels = torch.from_numpy(images).to(self.mean.device).float().div_(255)
        return pixels.sub_(self.mean).div_(self.std)

    def forward(self, pixels: torch.Tensor, offsets: torch.Tensor) -> Pooled:
        """Standardised images [N, h, w, c] and offsets [B + 1] to ``Pooled``."""
        return self.pooling(self.network(pixels.permute(0, 3, 1, 2)), offsets)


def fit(
    model_of: Callable[[], nn.Module],
    pooling: str,
    bags: ImageBags,
    train: np.ndarray,
    settings: ImageTraining,
    seed: int,
    device: torch.device,
    validation: np.ndarray | None = None,
) -> ImageModel:
    """Train a model; all randomness comes from ``seed``.

    The same device gives the same model; a GPU and a CPU draw different dropout.

    Args:
        model_of: makes the instance network; has its ``width``.
        pooling: part of the poolings family, with its defaults.
        bags: all bags.
        train: which to learn from.
        settings: of the training.
        seed: of weights, order, dropout, flips and colours.
        device: where to train.
        validation: bags by whose mean loss the epoch is chosen (the first of equal
            ones); None: the last epoch.
    """
    order = np.random.default_rng(seed)
    cuda = [device] if device.type == "cuda" else []
    exact = torch.backends.cudnn.flags(
        enabled=True, deterministic=True, allow_tf32=False
    )
    with torch.random.fork_rng(cuda), exact:
        torch.manual_seed(seed)
        network = model_of()
        width = int(network.width)  # pyright: ignore[reportArgumentType]
        best, weights = float("inf"), None
        model = ImageModel(network, width, pooling, *_moments(bags, train)).to(device)
        optimiser = torch.optim.Adam(
            model.parameters(),
            settings.lr,
            weight_decay=settings.weight_decay,
            fused=True,
        )
        pixels = model.standardise(bags.images)
        targets = torch.tensor(bags.targets, device=device)
        turns = _symmetries(pixels.shape[1]).to(device) if settings.flips else None
        for _ in range(settings.epochs):
            model.train()
            for bag in order.permutation(train).tolist():
                images, offsets = _bag(bags, pixels, bag)
                if turns is not None:
                    images = _flip(images, turns)
                if settings.colour:
                    images = _colour(images, model, settings.colour)
                loss = model(images, offsets).loss(targets[bag : bag + 1]).mean()
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
            if validation is not None:
                found = _loss(model.eval(), bags, pixels, validation)
                if found < best:
                    best, weights = found, copy.deepcopy(model.state_dict())
        if weights is not None:
            model.load_state_dict(weights)
    return model.eval()


def predict(
    model: ImageModel, bags: ImageBags, index: np.ndarray
) -> tuple[np.ndarray, float]:
    """Probabilities [len(index), 2], and how well attention finds positive images.

    The latter is the mean over bags with images of both kinds of the AUROC within
    the bag; NaN without attention or such bags.
    """
    found, areas = [], []
    with torch.inference_mode():
        for bag in index:
            rows = slice(bags.offsets[bag], bags.offsets[bag + 1])
            images = model.standardise(bags.images[rows])
            out = model(images, torch.tensor([0, len(images)]))
            found.append(out.log_probabilities.double().exp().cpu().numpy())
            truth = bags.instance[rows]
            if out.attention is not None and 0 < truth.sum() < len(truth):
                score = out.attention.double().cpu().numpy()
                areas.append(auroc(np.stack([-score, score], 1), truth.astype(int)))
    return np.concatenate(found), float(np.mean(areas)) if areas else float("nan")


def attention(model: ImageModel, bags: ImageBags, bag: int) -> np.ndarray | None:
    """Attention of the images of one bag, float64 [n]; None where there is none."""
    rows = slice(bags.offsets[bag], bags.offsets[bag + 1])
    images = model.standardise(bags.images[rows])
    with torch.inference_mode():
        out = model(images, torch.tensor([0, len(images)]))
    return None if out.attention is None else out.attention.double().cpu().numpy()


def _loss(
    model: ImageModel, bags: ImageBags, pixels: torch.Tensor, index: np.ndarray
) -> float:
    """Mean loss of the bags at ``index``."""
    targets = torch.tensor(bags.targets, device=pixels.device)
    with torch.inference_mode():
        losses = [
            model(*_bag(bags, pixels, bag)).bag_loss(targets[bag : bag + 1])
            for bag in index.tolist()
        ]
    return torch.cat(losses).double().mean().item()


def _colour(images: torch.Tensor, model: ImageModel, strength: float) -> torch.Tensor:
    """Standardised images [N, h, w, 3] of one bag, their stains jittered alike."""
    config = AugmentConfig(hed=strength)
    step = int(torch.randint(1 << 31, ()))
    drawn = draw_parameters(config, 0, step, 1, images.device)
    pixels = images * model.std + model.mean
    jittered = stain(
        pixels.flatten(0, 1).permute(2, 0, 1)[None], drawn.density, drawn.shift
    )
    pixels = jittered[0].permute(1, 2, 0).view_as(images)
    return pixels.sub(model.mean).div_(model.std)


def _bag(
    bags: ImageBags, pixels: torch.Tensor, bag: int
) -> tuple[torch.Tensor, torch.Tensor]:
    images = pixels[bags.offsets[bag] : bags.offsets[bag + 1]]
    return images, torch.tensor([0, len(images)])


def _moments(bags: ImageBags, train: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and spread of each channel over the training images, in 0..1.

    Of how often each of the 256 values occurs: exact, and without a copy in float64.
    """
    counts = np.zeros((bags.images.shape[-1], 256))
    for bag in train:
        part = bags.images[bags.offsets[bag] : bags.offsets[bag + 1]]
        for channel, count in enumerate(counts):
            count += np.bincount(part[..., channel].ravel(), minlength=256)
    values, share = np.arange(256) / 255, counts / counts.sum(1, keepdims=True)
    mean = share @ values
    std = np.sqrt((share * (values - mean[:, None]) ** 2).sum(1))
    std[std < 1e-6] = 1.0  # a channel that is the same everywhere becomes 0
    return torch.from_numpy(mean).float(), torch.from_numpy(std).float()


def _symmetries(side: int) -> torch.Tensor:
    """Source index of each pixel in the eight symmetries of a square: [8, side^2]."""
    own = torch.arange(side * side).view(side, side)
    turned = [torch.rot90(own, turn) for turn in range(4)]
    return torch.stack([*turned, *(square.flip(0) for square in turned)]).flatten(1)


def _flip(images: torch.Tensor, symmetries: torch.Tensor) -> torch.Tensor:
    """Each image [N, h, w, c] turned by one of the eight symmetries of the square."""
    chosen = torch.randint(8, (len(images),)).to(images.device)
    first = torch.arange(len(images), device=images.device) * symmetries.shape[1]
    rows = (first[:, None] + symmetries[chosen]).flatten()
    return images.flatten(0, 2).index_select(0, rows).view(images.shape)
