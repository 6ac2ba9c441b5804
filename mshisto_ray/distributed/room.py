"""Waiting for room on the cluster, and saying so."""

from __future__ import annotations

from collections import Counter

import ray
from ray.util.placement_group import placement_group, remove_placement_group

from mshisto_ray.distributed.workers import ActorPlan, cluster_nodes
from mshisto_ray.progress import say

# Whole seconds: Ray cuts the rest off.
_FIRST_S, _EVERY_S = 10, 60


def wait_for_room(
    plan: ActorPlan, first_s: int = _FIRST_S, every_s: int = _EVERY_S
) -> None:
    """Return when one worker of a plan finds room; say what is missing until then.

    Ray starts workers when other jobs free their CPUs and GPUs, and says nothing. The
    place is reserved for a moment and given back, so that another job may still take it
    first: the workers then wait without a line.

    Args:
        plan: of the workers.
        first_s: seconds until the first line.
        every_s: seconds between lines.
    """
    needed = {"CPU": plan.cpus, "GPU": plan.gpus}
    bundle = {name: amount for name, amount in needed.items() if amount}
    place = placement_group([bundle])
    try:
        limit = first_s
        while not place.wait(timeout_seconds=limit):
            say(f"waiting for {_amounts(bundle)} on one node: {_free()}")
            limit = every_s
    finally:
        remove_placement_group(place)


def _amounts(resources: dict[str, float]) -> str:
    return " and ".join(f"{n:g} {name}(s)" for name, n in resources.items())


def _free() -> str:
    free, total = Counter(ray.available_resources()), Counter()
    for node in cluster_nodes():
        total.update({"CPU": node.cpus, "GPU": node.gpus})
    kinds = [name for name, amount in total.items() if amount]
    return ", ".join(f"{free[k]:g} of {total[k]:g} {k}(s) are free" for k in kinds)
