"""What a job says while other jobs hold the cluster."""

import threading

import pytest
import ray
from ray.util.placement_group import placement_group, remove_placement_group

from mshisto_ray.distributed.room import wait_for_room
from mshisto_ray.distributed.workers import ActorPlan

pytestmark = pytest.mark.ray


def test_a_full_cluster_is_said_until_there_is_room(local_ray, capsys):
    everything = placement_group([{"CPU": 2}])
    assert ray.get(everything.ready(), timeout=30)
    give_back = threading.Timer(2.5, remove_placement_group, [everything])
    give_back.start()
    wait_for_room(ActorPlan(actors=4, cpus=1, gpus=0), first_s=1, every_s=1)
    give_back.join()
    lines = capsys.readouterr().out.splitlines()
    assert 1 < len(lines) < 30
    assert lines[0] == "waiting for 1 CPU(s) on one node: 0 of 2 CPU(s) are free"


def test_room_is_no_news(local_ray, capsys):
    wait_for_room(ActorPlan(actors=2, cpus=0.5, gpus=0))
    assert not capsys.readouterr().out
