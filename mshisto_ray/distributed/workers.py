"""How many worker processes of a job fit in the cluster."""

from __future__ import annotations

import math
from dataclasses import dataclass

import ray

from mshisto_ray.config import InputError
from mshisto_ray.runtime import Resources

_MAX_CPUS_PER_GPU_ACTOR = 8


@dataclass(frozen=True)
class ActorPlan:
    """Resources resolved against the cluster, per actor.

    ``threads`` is what an actor should give to ``torch.set_num_threads``.
    """

    actors: int
    cpus: float
    gpus: float

    @property
    def threads(self) -> int:
        """Whole cores of one actor, at least one."""
        return max(1, math.floor(self.cpus))


def plan_actors(
    resources: Resources,
    *,
    use_gpu: bool = False,
    keys: str = "runtime.actors, runtime.cpus, runtime.gpus",
) -> ActorPlan:
    """Choose number and size of the actors, checked against the cluster's nodes.

    All CPUs may be given to the actors: a pipeline whose rows come from the driver and
    whose only stage is the actor pool needs none besides. A pipeline with a further
    stage has to leave it some (fewer ``actors`` or ``cpus`` below 1).

    Args:
        resources: the configured workers.
        use_gpu: the stage can use a GPU: reserve one where there are any.
        keys: of the config, for messages.

    Raises:
        InputError: the cluster has no room for what was requested; Ray would wait
            forever.
    """
    nodes = cluster_nodes()
    gpus = resources.gpus
    if gpus is None:
        gpus = 1.0 if use_gpu and any(node.gpus >= 1 for node in nodes) else 0.0
    cpus = resources.cpus
    if cpus is None:
        cpus = _share_of_node(nodes, gpus) if gpus else 1.0
    fit = sum(_fit(node, cpus, gpus) for node in nodes)
    if fit < (resources.actors or 1):
        held = "; ".join(f"{node.cpus:g} CPUs, {node.gpus:g} GPUs" for node in nodes)
        raise InputError(
            f"{keys}: {resources.actors or 1} worker(s) with {cpus:g} CPUs and "
            f"{gpus:g} GPUs each are requested, {fit} fit; nodes: {held}. Request "
            "less, or add nodes first"
        )
    return ActorPlan(actors=resources.actors or fit, cpus=cpus, gpus=gpus)


@dataclass(frozen=True)
class Node:
    """Resources that Ray can reserve on one node of the cluster."""

    node_id: str
    address: str
    cpus: float
    gpus: float


def cluster_nodes() -> list[Node]:
    """The live nodes of the cluster."""
    return [
        Node(
            node_id=node["NodeID"],
            address=node["NodeManagerAddress"],
            cpus=node["Resources"].get("CPU", 0.0),
            gpus=node["Resources"].get("GPU", 0.0),
        )
        for node in ray.nodes()
        if node["Alive"]
    ]


def _share_of_node(nodes: list[Node], gpus: float) -> float:
    shares = [gpus * node.cpus / node.gpus for node in nodes if node.gpus >= gpus]
    share = math.floor(min(shares, default=1.0))
    return float(min(max(share, 1), _MAX_CPUS_PER_GPU_ACTOR))


def _fit(node: Node, cpus: float, gpus: float) -> int:
    # The margin keeps 1 / 0.1 at ten.
    by_cpu = math.floor(node.cpus / cpus + 1e-9)
    return min(by_cpu, math.floor(node.gpus / gpus + 1e-9)) if gpus else by_cpu
