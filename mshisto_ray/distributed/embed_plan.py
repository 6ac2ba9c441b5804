"""How many workers embed, and who reads for each of them."""

from __future__ import annotations

import math
from dataclasses import replace

from mshisto_ray.config import InputError
from mshisto_ray.distributed.embed_config import EmbedConfig
from mshisto_ray.distributed.embed_unit import IN_TURN, ReadingPlan
from mshisto_ray.distributed.session import ActorPlan, cluster_nodes, plan_actors

# A GPU takes the tiles of some cores; what it is short of shows as its idle time.
_ACTORS = 4


def plan_reading(config: EmbedConfig) -> tuple[ActorPlan, ReadingPlan]:
    """Workers, and who reads for each; the cluster has room for all of them.

    Raises:
        InputError: it has not; Ray would wait for ever.
    """
    resources, reading = config.resources, config.reading
    if reading.by == "actors" and resources.cpus is None:
        # The cores of a node are for those that read.
        resources = resources.model_copy(update={"cpus": 1.0})
    plan = plan_actors(resources, use_gpu=True)
    if reading.by == "actors":
        num = reading.num or _ACTORS
        return _with_actors(config, plan, num), ReadingPlan("actors", num)
    spare = plan.threads - 1
    if reading.by == "threads" or (reading.by == "auto" and plan.gpus and spare):
        return plan, ReadingPlan("threads", reading.num or max(1, spare))
    return plan, IN_TURN


def _with_actors(config: EmbedConfig, plan: ActorPlan, num: int) -> ActorPlan:
    cpus = sum(node.cpus for node in cluster_nodes())
    fit = math.floor(cpus / (plan.cpus + num) + 1e-9)
    wanted = config.resources.actors or 1
    if fit < wanted:
        raise InputError(
            f"reading: {wanted} worker(s) with {plan.cpus:g} CPUs and {num} readers "
            f"each ask for {wanted * (plan.cpus + num):g} CPUs, the cluster has "
            f"{cpus:g}: lower reading.num or resources.actors, or add nodes"
        )
    return replace(plan, actors=min(plan.actors, fit))
