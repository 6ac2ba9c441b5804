"""The number of embedding workers, and the readers of each."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial

from mshisto_ray.config import InputError
from mshisto_ray.distributed.readers import ReaderActors
from mshisto_ray.distributed.workers import ActorPlan, cluster_nodes, plan_actors
from mshisto_ray.embedding.reading import InTurn, Reading, Threads
from mshisto_ray.jobs._embed_config import EmbedConfig, EmbedRuntime

# A GPU embeds the tiles that some cores read; with too few readers it is idle.
_ACTORS = 4


def plan_reading(
    config: EmbedConfig,
) -> tuple[ActorPlan, Callable[[], Reading]]:
    """Plan the workers, and the function that starts the reading of each.

    Raises:
        InputError: the cluster has no room for them; Ray would wait forever.
    """
    runtime, reading = config.runtime, config.runtime.reading
    if reading.by == "actors" and runtime.cpus is None:
        # Leave the cores of a node to the readers.
        runtime = runtime.model_copy(update={"cpus": 1.0})
    plan = plan_actors(runtime, use_gpu=True)
    if reading.by == "actors":
        num = reading.num or _ACTORS
        return _with_actors(runtime, plan, num), partial(ReaderActors, num)
    spare = plan.threads - 1
    if reading.by == "threads" or (reading.by == "auto" and plan.gpus and spare):
        return plan, partial(Threads, reading.num or max(1, spare))
    return plan, InTurn


def _with_actors(runtime: EmbedRuntime, plan: ActorPlan, num: int) -> ActorPlan:
    cpus = sum(node.cpus for node in cluster_nodes())
    fit = math.floor(cpus / (plan.cpus + num) + 1e-9)
    wanted = runtime.actors or 1
    if fit < wanted:
        raise InputError(
            f"runtime.reading: {wanted} worker(s) with {plan.cpus:g} CPUs and {num} "
            f"readers each need {wanted * (plan.cpus + num):g} CPUs, the cluster has "
            f"{cpus:g}: lower runtime.reading.num or runtime.actors, or add nodes"
        )
    return replace(plan, actors=min(plan.actors, fit))
