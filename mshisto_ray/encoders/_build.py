"""Encoders built of a recipe and its weights file."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mshisto_ray.backbone.attention_pooling import AttentionPooledNetwork
from mshisto_ray.backbone.names import as_timm
from mshisto_ray.backbone.network import (
    NetworkEncoder,
    create_network,
    network_digest,
)
from mshisto_ray.backbone.precision import Precision
from mshisto_ray.backbone.taking import Take, taking
from mshisto_ray.backbone.weights import load_state, read_state
from mshisto_ray.encoders._recipe import NetworkSpec, Recipe


def build_network(
    recipe: Recipe, weights: Path, take: Take, device: str, precision: Precision
) -> NetworkEncoder:
    """Build the encoder of a network of timm.

    Raises:
        InputError: weights of another network, or not safe to read.
    """
    assert recipe.network is not None
    network = empty_network(recipe.network)
    state = as_timm(read_state(weights), network.state_dict(), recipe.network.names)
    advice = f"Is it {recipe.title}? See {recipe.weights.address}"
    load_state(network, state, weights, advice)
    transform = recipe.input.transform()
    digest = network_digest(network, transform, _architecture(recipe.network, take))
    taken = taking(network, take)
    return NetworkEncoder(taken, transform, digest, device, precision)


def empty_network(spec: NetworkSpec) -> nn.Module:
    """The network with parameters that hold no numbers yet, which costs no time.

    Networks that compute buffers when they are made, which no weights file holds, are
    made in memory.
    """
    with torch.device("meta"):
        network = make_network(spec)
    kept = network.state_dict().keys()
    if all(name in kept for name, _ in network.named_buffers()):
        return network
    return make_network(spec)


def shapes_of(network: nn.Module) -> str:
    """Digest of the names and shapes of a network's weights, without their values."""
    digest = hashlib.blake2b(digest_size=8)
    for name, value in sorted(network.state_dict().items()):
        digest.update(f"{name} {tuple(value.shape)};".encode())
    return digest.hexdigest()


def make_network(spec: NetworkSpec) -> nn.Module:
    """The network of a recipe, without its weights."""
    network = create_network(spec.model, spec.options)
    if spec.attention is None:
        return network
    attention = spec.attention
    return AttentionPooledNetwork(
        network, attention.kind, attention.width, attention.heads
    )


def _architecture(spec: NetworkSpec, take: Take) -> dict[str, Any]:
    """What the digest holds of the network, beside its weights."""
    described: dict[str, Any] = {"model": spec.model, "options": spec.options}
    if spec.attention is not None:
        described["attention"] = spec.attention.model_dump()
    return described | ({} if take == "pooled" else {"take": take})
