"""Two ways of training an attention model, epoch by epoch."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from mshisto_ray import config as configs
from mshisto_ray.mil.fit.batches import Batches
from mshisto_ray.mil.fit.config import TrainConfig
from mshisto_ray.mil.fit.fold import build_model
from mshisto_ray.mil.fit.scoring import log_probabilities
from mshisto_ray.mil.fit.standardisation import fit_standardisation, slide_moments
from mshisto_ray.mil.input.bags import Bags

PLAIN_LR = 1e-3


class Ours:
    """Epochs as ``mil.fit`` makes them."""

    def __init__(
        self,
        bags: Bags,
        train: np.ndarray,
        batch_size: int,
        lr: float,
        device: torch.device,
    ):
        raw = {"pooling": {"name": "attention"}, "hidden": [], "dropout": 0}
        config = configs.validate(TrainConfig, raw)
        torch.manual_seed(0)
        self._model = build_model(config, bags).to(device)
        fitted = fit_standardisation(bags, slide_moments(bags), train)
        self._batches = Batches(bags, fitted, device)
        assert bags.targets is not None
        self._targets = torch.from_numpy(bags.targets).to(device)
        self._train, self._size = train, batch_size
        self._optimiser = torch.optim.Adam(self._model.parameters(), lr, fused=True)
        self._order = np.random.default_rng(0)

    def epoch(self) -> None:
        """One pass over the training bags."""
        self._model.train()
        order = self._order.permutation(self._train)
        targets = self._targets[order]
        for start in range(0, len(order), self._size):
            some = slice(start, start + self._size)
            loss = self._model(*self._batches.get(order[some])).loss(targets[some])
            self._optimiser.zero_grad()
            loss.mean().backward()
            self._optimiser.step()

    def probabilities(self, index: np.ndarray) -> np.ndarray:
        """Probabilities of bags, [B, 2]."""
        return log_probabilities(self._model, self._batches, index).exp().numpy()


class Plain:
    """The same model, one bag per step, on tensors prepared before.

    ``tidy``: with the fused Adam and a matrix product in the pooling; else with torch's
    default Adam and the sum of products, as it is often written.
    """

    def __init__(
        self, bags: Bags, train: np.ndarray, device: torch.device, tidy: bool = False
    ):
        self._tidy = tidy
        fitted = fit_standardisation(bags, slide_moments(bags), train)
        self._ready = [
            fitted(torch.from_numpy(bags.features.read(i))).to(device)
            for i in range(len(bags))
        ]
        torch.manual_seed(0)
        dim = bags.features.dim
        layers = nn.Linear(dim, 128), nn.Tanh(), nn.Linear(128, 1)
        self._score = nn.Sequential(*layers).to(device)
        self._classify = nn.Linear(dim, 1).to(device)
        parameters = [*self._score.parameters(), *self._classify.parameters()]
        self._optimiser = torch.optim.Adam(parameters, PLAIN_LR, fused=tidy or None)
        assert bags.targets is not None
        self._targets = torch.from_numpy(bags.targets).float().to(device)
        self._train, self._order = train, np.random.default_rng(0)

    def _logit(self, bag: int) -> torch.Tensor:
        h = self._ready[bag]
        a = torch.softmax(self._score(h), 0)
        if self._tidy:
            return self._classify(a.T @ h)[0, 0]
        return self._classify((a * h).sum(0))[0]

    def epoch(self) -> None:
        """One pass over the training bags."""
        for bag in self._order.permutation(self._train):
            loss = nn.functional.binary_cross_entropy_with_logits(
                self._logit(bag), self._targets[bag]
            )
            self._optimiser.zero_grad()
            loss.backward()
            self._optimiser.step()

    def probabilities(self, index: np.ndarray) -> np.ndarray:
        """Probabilities of bags, [B, 2]."""
        with torch.inference_mode():
            logits = torch.stack([self._logit(bag) for bag in index]).double().cpu()
        return torch.stack([-logits, logits], 1).sigmoid().numpy()
