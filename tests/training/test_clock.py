import time

import pytest
import torch

from mshisto_ray.training.clock import Clock, bounded_by, bytes_sent


def test_a_clock_adds_up_what_was_marked():
    clock = Clock(torch.device("cpu"))
    time.sleep(0.05)
    clock.start()  # the time before is not counted
    time.sleep(0.01)
    clock.mark("data")
    time.sleep(0.02)
    clock.note_gradient()
    time.sleep(0.01)
    clock.note_gradient()
    time.sleep(0.04)
    clock.mark_backward()
    found = clock.take()
    assert 0.01 <= found["data"] < 0.045
    assert found["compute"] >= 0.03 and found["communication"] >= 0.04
    assert found["copy"] == 0
    clock.mark_backward()  # no gradient was sent
    again = clock.take()
    assert again["communication"] == 0 < again["compute"]
    assert clock.total["data"] == found["data"]


def test_the_longest_phase_bounds_a_step():
    seconds = {"data": 1.0, "copy": 0.0, "compute": 7.0, "communication": 2.0}
    said = bounded_by(seconds)
    assert said.startswith("data 10.0 %, copy 0.0 %, compute 70.0 %")
    assert said.endswith("bound by compute")


def test_bytes_are_those_of_rings():
    # Two workers exchange halves of the gradients twice, and their projections.
    assert bytes_sent(1000, 32, 8, 2) == 4 * (1000 + 16 * 8)
    assert bytes_sent(1000, 32, 8, 1) == 0
    assert bytes_sent(0, 64, 8, 4, buffers=100) == pytest.approx(4 * (3 * 16 * 8 + 75))
