"""Resources and software of one node, collected by a Ray task on it."""

from __future__ import annotations

import importlib.util
import os
import shutil
import socket
from dataclasses import dataclass, field
from pathlib import Path

import ray
from ray.exceptions import GetTimeoutError, RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from mshisto_ray.distributed.workers import Node
from mshisto_ray.provenance import versions
from mshisto_ray.tiling.area_average import compiled_loop

# The same on every node.
PACKAGES = ("mshisto-ray", "ray", "torch", "timm", "numpy", "pyarrow", "mlflow")
_SHARED_MEMORY = Path("/dev/shm")
_TIMEOUT_S = 120.0


@dataclass
class NodeFindings:
    """Findings on a node. ``shared`` is the error of the shared folder, or "".

    Sizes are bytes; ``gpus`` are (name, computes bfloat16) of those that torch sees;
    ``bytecode`` says whether torch was compiled to bytecode that is kept on disk,
    ``resampling`` what is wrong with numba, "" if it works, None if it is absent.
    """

    host: str
    cpus: int
    omp_threads: str
    versions: dict[str, str]
    openslide: str
    shared: str = ""
    disk_free: dict[str, int] = field(default_factory=dict)
    shared_memory: int | None = None
    gpus: list[tuple[str, bool]] = field(default_factory=list)
    cuda_error: str = ""
    gpu_device: bool = False
    bytecode: bool = True
    resampling: str | None = ""


def probe_node(node: Node, out: Path | None, nonce: str) -> NodeFindings:
    """Run ``probe`` on a node of the cluster.

    Raises:
        TimeoutError: the node does not answer.
        ConnectionError: the task failed there; with the last line of its error.
    """
    place = NodeAffinitySchedulingStrategy(node.node_id, soft=False)
    # A small part of a GPU: torch sees it, and others can still use it.
    part = 0.01 if node.gpus else 0
    remote = ray.remote(probe).options(
        num_cpus=0, num_gpus=part, scheduling_strategy=place, max_retries=0
    )
    task = remote.remote(out, nonce, node.node_id, node.gpus > 0)
    try:
        return ray.get(task, timeout=_TIMEOUT_S)
    except GetTimeoutError:
        ray.cancel(task, force=True)
        raise TimeoutError(f"no answer in {_TIMEOUT_S:g} s") from None
    except RayError as error:
        last = str(error).strip().splitlines()[-1]
        raise ConnectionError(last) from None


def probe(out: Path | None, nonce: str, node_id: str, wants_gpu: bool) -> NodeFindings:
    """Probe this node; read the driver's note in ``out`` and write one."""
    found = NodeFindings(
        host=socket.gethostname(),
        cpus=os.cpu_count() or 1,
        omp_threads=os.environ.get("OMP_NUM_THREADS", ""),
        versions=versions(PACKAGES),
        openslide=_openslide(),
        gpu_device=Path("/dev/nvidia0").exists(),
        bytecode=_has_bytecode("torch"),
        resampling=_resampling(),
    )
    found.disk_free["/tmp"] = shutil.disk_usage("/tmp").free
    if _SHARED_MEMORY.is_dir():
        found.shared_memory = shutil.disk_usage(_SHARED_MEMORY).free
    if out is not None:
        found.shared = _exchange_notes(out, nonce, node_id)
        if out.is_dir():
            found.disk_free[str(out)] = shutil.disk_usage(out).free
    if wants_gpu:
        found.gpus, found.cuda_error = _gpus()
    return found


def note_path(out: Path, nonce: str, writer: str) -> Path:
    """The file in which the driver or a node leaves its note."""
    return out / f".doctor-{nonce}-{writer}"


def _exchange_notes(out: Path, nonce: str, node_id: str) -> str:
    try:
        if note_path(out, nonce, "driver").read_text() != nonce:
            return "another file is there"
        note_path(out, nonce, node_id).write_text(nonce)
    except OSError as error:
        return f"{type(error).__name__}: {error}"
    return ""


def _openslide() -> str:
    try:
        import openslide
    except (ImportError, OSError) as error:
        return f"error: {error}"
    return openslide.__library_version__


def _has_bytecode(package: str) -> bool:
    found = importlib.util.find_spec(package)
    if found is None or found.origin is None:
        return True  # nothing to compile; the versions say that it is missing
    return Path(importlib.util.cache_from_source(found.origin)).exists()


def _resampling() -> str | None:
    if importlib.util.find_spec("numba") is None:
        return None
    loop = compiled_loop()
    return loop if isinstance(loop, str) else ""


def _gpus() -> tuple[list[tuple[str, bool]], str]:
    import torch

    if not torch.cuda.is_available():
        build = torch.version.cuda or "a CPU-only build"
        return [], f"torch sees no GPU (torch's CUDA: {build})"
    try:
        torch.ones(1, device="cuda").sum().item()
    except RuntimeError as error:
        return [], str(error).splitlines()[0]
    native = torch.cuda.is_bf16_supported(including_emulation=False)
    count = torch.cuda.device_count()
    return [(torch.cuda.get_device_name(i), native) for i in range(count)], ""
