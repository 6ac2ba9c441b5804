"""Time spent in each phase of training steps, on the clock of the device."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Literal

import torch
from torch import distributed
from torch.nn.parallel import DistributedDataParallel

# Waiting for images; copying them to the device; augmentation, network and optimiser;
# exchanging projections and gradients, where it does not overlap with computing.
Phase = Literal["data", "copy", "compute", "communication"]
PHASES: tuple[Phase, ...] = ("data", "copy", "compute", "communication")
_Instant = float | torch.cuda.Event


class Clock:
    """Adds up the seconds spent in each phase.

    On a GPU, instants are events of its stream, read much later: timing never waits.
    """

    def __init__(self, device: torch.device):
        self.device = device
        self._on_gpu = device.type == "cuda"
        self._spans: list[tuple[Phase, _Instant, _Instant]] = []
        self._noted: _Instant | None = None
        self.total = dict.fromkeys(PHASES, 0.0)
        self.start()

    def start(self) -> None:
        """Start timing now; the time since the last mark is not counted."""
        self._last = self._now()

    def mark(self, phase: Phase) -> None:
        """Count the time since the last mark as this phase."""
        now = self._now()
        self._spans.append((phase, self._last, now))
        self._last, self._noted = now, None

    def note_gradient(self) -> None:
        """Note that a gradient is sent; after the last one nothing is computed."""
        self._noted = self._now()

    def mark_backward(self) -> None:
        """Count the time since the last mark as computing, then sending gradients."""
        if self._noted is not None:
            noted = self._noted
            self._spans.append(("compute", self._last, noted))
            self._last = noted
            self.mark("communication")
        else:
            self.mark("compute")

    def take(self) -> dict[Phase, float]:
        """Seconds of each phase since the last ``take``; adds them to ``total``."""
        found = dict.fromkeys(PHASES, 0.0)
        if self._on_gpu:
            torch.cuda.synchronize()
        for phase, start, end in self._spans:
            found[phase] += _seconds(start, end)
        self._spans.clear()
        for phase, seconds in found.items():
            self.total[phase] += seconds
        return found

    def _now(self) -> _Instant:
        if not self._on_gpu:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event


def _seconds(start: _Instant, end: _Instant) -> float:
    if isinstance(start, float) and isinstance(end, float):
        return end - start
    assert isinstance(start, torch.cuda.Event) and isinstance(end, torch.cuda.Event)
    return start.elapsed_time(end) / 1e3


def time_gradients(parallel: DistributedDataParallel, clock: Clock) -> None:
    """Note on a clock when gradients are sent; they are averaged as usual."""

    # Without annotations: torch compares them with its own types, here they are text.
    def average(state, bucket):
        state.note_gradient()
        gradient = bucket.buffer().div_(distributed.get_world_size())
        sent = distributed.all_reduce(gradient, async_op=True)
        assert sent is not None
        return sent.get_future().then(lambda future: future.value()[0])

    parallel.register_comm_hook(clock, average)


def bounded_by(seconds: Mapping[Phase, float]) -> str:
    """The share of each phase in a step as text that ends with the largest."""
    whole = max(sum(seconds.values()), 1e-12)
    shown = ", ".join(f"{name} {100 * s / whole:.1f} %" for name, s in seconds.items())
    return f"{shown}: bound by {max(seconds, key=lambda phase: seconds[phase])}"


def bytes_sent(
    num_parameters: int, batch_size: int, dim: int, workers: int, buffers: int = 0
) -> float:
    """The number of bytes that each worker sends in a step.

    A ring of W workers sends 2 (W - 1) / W of the gradients (float32) and (W - 1) times
    each one's own projections (float32); the first worker's buffers are forwarded by
    all but the last.

    Args:
        num_parameters: number of trained parameters.
        batch_size: images of all workers.
        dim: width of a projection.
        workers: W.
        buffers: number of values of running statistics that are sent too.
    """
    ring = (workers - 1) / workers
    projections = (workers - 1) * batch_size / workers * dim
    return 4 * (2 * ring * num_parameters + projections + ring * buffers)
