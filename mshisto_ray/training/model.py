"""The network that is trained: a timm backbone and a projection head."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from mshisto_ray.backbone.network import create_network, pooled_features
from mshisto_ray.backbone.projection import HeadShape, make_head
from mshisto_ray.backbone.weights import download_weights, load_weights
from mshisto_ray.config import Config, InputError, Weights, option
from mshisto_ray.encoders import load_start, read_digest

Width = Annotated[int, option(ge=1)]
Norm = Literal["own", "frozen", "sync"]


class ProjectionConfig(Config):
    """The head whose output goes to the loss; embeddings are taken before it."""

    input: Literal["pooled", "maps"] = option(
        "pooled", "pooled features, or the last feature maps flattened"
    )
    hidden: tuple[Width, ...] = option((512,), "widths of hidden layers; []: none")
    dim: int = option(128, "width of the projection", ge=2)
    batch_norm: bool = option(True, "normalise after each hidden layer")
    relu: bool = option(True, "ReLU after each hidden layer")


class BackboneConfig(Config):
    """The network and its initial weights."""

    backbone: str = option("resnet18", "name of the timm model")
    options: dict[str, Any] = option(
        {"num_classes": 0}, "of timm's constructor; pre_logits: false for VGG"
    )
    weights: Weights = option(
        "random",
        "random, a local weights file, an encoder directory, or pretrained (timm "
        "downloads them)",
    )
    norm: Norm = option(
        "own",
        "statistics of batch norm layers; own: of each worker's images; frozen: the "
        "running ones of `weights`, never updated; sync: of all workers' images (GPUs "
        "only)",
    )


class ModelConfig(BackboneConfig):
    """Backbone and projection."""

    projection: ProjectionConfig = ProjectionConfig()


class ContrastiveModel(nn.Module):
    """Backbone and projection, [B, 3, H, W] to [B, P].

    Attributes:
        backbone: the timm network, which is kept after training.
        projection: linear layers, batch norm and ReLU.
        dim: width of the embeddings.
        shape: of the projection.
        norm: statistics that its batch norm layers use.
    """

    norm: Norm = "own"

    def __init__(
        self,
        backbone: nn.Module,
        config: ProjectionConfig,
        tile_px: int,
        norm: Norm = "own",
    ):
        super().__init__()
        self.norm = norm
        self.backbone = backbone
        self._flat = config.input == "maps"
        self.dim, width = self._widths(tile_px)
        self.shape = HeadShape(
            width, self._flat, config.hidden, config.dim, config.batch_norm, config.relu
        )
        self.projection = make_head(self.shape)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Normalised images [B, 3, H, W] to projections [B, P]."""
        if self._flat:
            return self.projection(self.backbone.forward_features(x).flatten(1))  # pyright: ignore[reportCallIssue]
        return self.projection(self.embed(x))

    def embed_and_project(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Embeddings [B, D] and projections [B, P], the backbone run once."""
        maps = self.backbone.forward_features(x)  # pyright: ignore[reportCallIssue]
        embeddings = self.backbone.forward_head(maps, pre_logits=True)  # pyright: ignore[reportCallIssue]
        seen = maps.flatten(1) if self._flat else embeddings
        return embeddings, self.projection(seen)

    def embed(self, x: torch.Tensor) -> torch.Tensor:
        """Normalised images [B, 3, H, W] to embeddings [B, D]."""
        return pooled_features(self.backbone, x)

    def train(self, mode: bool = True) -> ContrastiveModel:
        """As torch's, but frozen batch norm keeps its running statistics."""
        super().train(mode)
        if self.norm == "frozen":
            for layer in _batch_norms(self):
                layer.eval()
        return self

    def _widths(self, tile_px: int) -> tuple[int, int]:
        """Widths of embeddings and of the head's input, found with an empty tile."""
        training = self.backbone.training
        self.backbone.eval()
        tile = torch.zeros(1, 3, tile_px, tile_px)
        try:
            with torch.inference_mode():
                dim = self.embed(tile).shape[1]
                maps = self.backbone.forward_features(tile)  # pyright: ignore[reportCallIssue]
        except (AssertionError, RuntimeError) as error:
            raise InputError(
                f"model: the backbone does not take tiles of {tile_px} px ({error})"
            ) from None
        self.backbone.train(training)
        return dim, maps.numel() if self._flat else dim


def build_model(config: ModelConfig, tile_px: int, seed: int) -> ContrastiveModel:
    """Build the model with its initial weights.

    Raises:
        InputError: unknown backbone, weights that do not fit, tiles it does not take.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        backbone = create_network(config.backbone, config.options)
        if config.weights == "pretrained":
            download_weights(backbone, config.backbone)
        elif config.weights != "random":
            _load(backbone, config, Path(config.weights).expanduser())
        return ContrastiveModel(backbone, config.projection, tile_px, config.norm)


def _load(backbone: nn.Module, config: BackboneConfig, path: Path) -> None:
    if path.is_dir():
        described = {"model": config.backbone, "options": config.options}
        load_start(backbone, described, path)
    else:
        load_weights(backbone, path)


def weights_digest(weights: str) -> str:
    """A digest of initial weights' content; a keyword or absent path is unchanged."""
    path = Path(weights).expanduser()
    if weights in ("random", "pretrained") or not path.exists():
        return weights
    if path.is_dir():
        return read_digest(path)
    with path.open("rb") as file:
        return hashlib.file_digest(file, "blake2b").hexdigest()


def mixes_images(model: ContrastiveModel) -> bool:
    """Whether an image's features depend on the other images of a training batch."""
    return model.norm != "frozen" and bool(_batch_norms(model))


def check_norm(norm: Norm, workers: int, device: str) -> None:
    """Refuse joint batch statistics on CPUs, where torch does not support them.

    Raises:
        InputError: ``norm: sync`` for several workers without a GPU.
    """
    if norm == "sync" and workers > 1 and device == "cpu":
        raise InputError(
            "model.norm: sync: torch joins the batch statistics of workers only on "
            "GPUs, and these have none: set model.norm=frozen with trained weights, "
            "take a backbone without batch norm, or set workers=1"
        )


def check_micro_batch(model: ContrastiveModel, micro_batch: int | None) -> None:
    """Refuse micro-batches if an image's features depend on others in its batch.

    Raises:
        InputError: ``micro_batch`` for a network with batch statistics.
    """
    if micro_batch is not None and mixes_images(model):
        raise InputError(
            "run.micro_batch: the network normalises by batch statistics, which differ "
            "in a part of the batch, so that the loss would silently change: "
            "set model.norm=frozen with trained weights, take a network without batch "
            "norm (model.projection.batch_norm=false too), or set run.micro_batch=null"
        )


def join_norm(model: ContrastiveModel) -> ContrastiveModel:
    """The model with batch norm joined over the process group; same weights."""
    from timm.layers.norm_act import convert_sync_batchnorm

    return convert_sync_batchnorm(model)  # pyright: ignore[reportReturnType]


def _batch_norms(model: nn.Module) -> list[nn.Module]:
    return [layer for layer in model.modules() if isinstance(layer, _BatchNorm)]


def num_parameters(modules: Sequence[nn.Module]) -> int:
    """The number of parameters of some modules."""
    return sum(p.numel() for module in modules for p in module.parameters())
