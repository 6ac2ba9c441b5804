"""Check whether jobs can run here: Ray, storage, GPUs and packages, on every node."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mshisto_ray import distributed, tracking
from mshisto_ray.config import Config, InputError, OutputPath, option
from mshisto_ray.distributed import session
from mshisto_ray.distributed.probe import PACKAGES, NodeFindings, note_path, probe_node
from mshisto_ray.distributed.session import connect
from mshisto_ray.distributed.workers import Node, cluster_nodes
from mshisto_ray.provenance import versions
from mshisto_ray.runtime import Runtime

_GB = 1e9
# A shared file system may show a file later to others than to its writer.
_SHARED_WAIT_S = 10.0


class DoctorConfig(Config):
    """The folder and MLflow store to check."""

    out: OutputPath | None = option(
        None, "folder for results, which every node must see"
    )
    min_free_gb: float = option(
        20.0, "warn if less disk than this is free", unit="GB", ge=0
    )
    runtime: Runtime = Runtime()


@dataclass(frozen=True)
class Finding:
    """One line of the report."""

    level: Literal["ok", "warn", "FAIL"]
    subject: str
    text: str
    fix: str = ""

    def __str__(self) -> str:
        fix = f" -> {self.fix}" if self.fix else ""
        return f"{self.level:<5} {self.subject:<12} {self.text}{fix}"


def run(config: DoctorConfig) -> int:
    """Check Ray, storage, GPUs and packages on every node; 1 if something fails."""
    worst = 0
    for finding in diagnose(config):
        print(finding, flush=True)
        worst |= finding.level == "FAIL"
    print("something fails: see above" if worst else "ready")
    return int(worst)


def diagnose(config: DoctorConfig) -> Iterator[Finding]:
    """Yield every finding as soon as it is made."""
    yield check_authentication()
    yield check_omp_threads()
    yield check_mlflow(config.runtime.mlflow.uri)
    try:
        with connect():
            yield from _check_cluster(config)
    except InputError as error:
        yield Finding("FAIL", "ray", str(error))


def check_authentication() -> Finding:
    """Check whether this shell, `ray start` and `ray job submit` agree on tokens."""
    subject, mode = "ray auth", os.environ.get("RAY_AUTH_MODE")
    token = Path.home() / ".ray" / "auth_token"
    if mode and not distributed.OWN_TOKEN:
        fix = "export the same on every node and in every shell"
        return Finding("ok", subject, f"RAY_AUTH_MODE={mode}: {fix}")
    if token.exists():
        return Finding(
            "warn",
            subject,
            f"{token} exists, so `ray start` demands a token that `ray job submit` "
            "does not send while RAY_AUTH_MODE is unset",
            "export RAY_AUTH_MODE=token in every shell, and copy the token to every "
            "node",
        )
    if mode:
        return Finding("ok", subject, "a token of this process alone (local session)")
    return Finding(
        "warn", subject, "RAY_AUTH_MODE is unset: the cluster lets anyone in who can "
        "reach its ports", "export RAY_AUTH_MODE=token on every node and in every "
        "shell, with the token of `ray get-auth-token --generate`",
    )  # fmt: skip


def check_omp_threads() -> Finding:
    """Check whether every worker would use all cores."""
    threads = os.environ.get("OMP_NUM_THREADS", "")
    if threads in ("", "1"):
        return Finding("ok", "omp threads", "each worker uses the cores it reserved")
    return Finding(
        "warn", "omp threads", f"OMP_NUM_THREADS={threads} applies to every worker",
        "unset OMP_NUM_THREADS",
    )  # fmt: skip


def check_mlflow(uri: str | None) -> Finding:
    """Check whether the store can be used from the driver."""
    if uri is None:
        return Finding("ok", "mlflow", "mlflow.db beside each job's output folder")
    try:
        tracking.check_uri(uri)
    except InputError as error:
        return Finding("FAIL", "mlflow", str(error))
    return Finding("ok", "mlflow", f"{uri} can be used")


def _check_cluster(config: DoctorConfig) -> Iterator[Finding]:
    nodes = cluster_nodes()
    cpus, gpus = sum(n.cpus for n in nodes), sum(n.gpus for n in nodes)
    text = f"{len(nodes)} node(s), {cpus:g} CPUs, {gpus:g} GPUs"
    yield Finding("ok", "ray", text)
    nonce = secrets.token_hex(4)
    out = config.out
    if out is not None:
        try:
            out.mkdir(parents=True, exist_ok=True)
            note_path(out, nonce, "driver").write_text(nonce)
        except OSError as error:
            yield Finding(
                "FAIL", "storage", f"out={out} cannot be written: {error}",
                "give a folder that this user may write",
            )  # fmt: skip
            out = None
    elif len(nodes) > 1:
        yield Finding(
            "warn", "storage", "not checked", "give out=FOLDER on shared storage"
        )
    try:
        for node in nodes:
            found = _probe(node, out, nonce)
            if isinstance(found, Finding):
                yield found
            else:
                yield from check_node(node, found, config.min_free_gb)
                if out is not None:
                    yield _check_note(node, found, out, nonce)
    finally:
        if out is not None:
            for note in out.glob(f".doctor-{nonce}-*"):
                note.unlink(missing_ok=True)


def _probe(node: Node, out: Path | None, nonce: str) -> NodeFindings | Finding:
    try:
        return probe_node(node, out, nonce)
    except TimeoutError as error:
        fix = "is it overloaded, its GPUs taken?"
        return Finding("FAIL", node.address, str(error), fix)
    except ConnectionError as error:
        fix = "install this package there, or submit with --working-dir ."
        return Finding("FAIL", node.address, str(error), fix)


def check_node(
    node: Node, found: NodeFindings, min_free_gb: float
) -> Iterator[Finding]:
    """Findings on one node."""
    name = node.address
    own = versions(PACKAGES)
    other = [
        f"{k} {v} (here {own[k]})" for k, v in found.versions.items() if v != own[k]
    ]
    if other:
        text, fix = f"not as on the driver: {', '.join(other)}", "install the same"
        yield Finding("FAIL", name, text, fix)
    else:
        text = f"{found.host}: {node.cpus:g} CPUs, Python and packages as here"
        yield Finding("ok", name, text)
    if found.openslide.startswith("error"):
        fix = "pip install openslide-bin"
        yield Finding("FAIL", name, f"OpenSlide does not load: {found.openslide}", fix)
    else:
        yield Finding("ok", name, f"OpenSlide {found.openslide}")
    if not found.bytecode:
        text = "has no bytecode of torch: every process of Ray compiles it anew"
        fix = "python -m compileall -q SITE-PACKAGES, as one who may write there"
        yield Finding("warn", name, text, fix)
    yield _check_resampling(name, found.resampling)
    yield from _check_gpus(node, found)
    for place, free in found.disk_free.items():
        enough = free >= min_free_gb * _GB
        fix = "" if enough else "free some disk"
        level = "ok" if enough else "warn"
        yield Finding(level, name, f"{free / _GB:,.0f} GB free in {place}", fix)
    room = found.shared_memory
    if room is not None and room < session.OBJECT_STORE_BYTES:
        text = f"/dev/shm has {room / _GB:.1f} GB free, Ray will use slow disk"
        yield Finding("warn", name, text, "start the container with --shm-size=2g")


def _check_resampling(name: str, found: str | None) -> Finding:
    if found:
        text = f"resamples tiles by BLAS, the same pixels in twice the time: {found}"
        return Finding("warn", name, text, "install numba anew")
    if found is None:
        text = "resamples tiles by BLAS; with the extra `fast` in half the time"
        return Finding("ok", name, text)
    return Finding("ok", name, "resamples tiles by a loop that numba compiled")


def _check_gpus(node: Node, found: NodeFindings) -> Iterator[Finding]:
    if found.cuda_error:
        text = f"Ray has {node.gpus:g} GPU(s) here, but {found.cuda_error}"
        fix = "install a CUDA build of torch that the driver supports"
        yield Finding("FAIL", node.address, text, fix)
    elif found.gpus:
        kind, native = found.gpus[0]
        text = f"{node.gpus:g} x {kind}, bfloat16 {'yes' if native else 'no'}"
        yield Finding("ok", node.address, text)
    elif found.gpu_device:
        fix = "start Ray with --num-gpus"
        yield Finding("warn", node.address, "has a GPU that Ray does not manage", fix)


def _check_note(node: Node, found: NodeFindings, out: Path, nonce: str) -> Finding:
    """Check that the node read the driver's note, and that its own arrives here."""
    if found.shared:
        text = f"does not share out={out}: {found.shared}"
        return Finding("FAIL", node.address, text, "mount it there under this path")
    end = time.monotonic() + _SHARED_WAIT_S
    note = note_path(out, nonce, node.node_id)
    while not note.exists():
        if time.monotonic() > end:
            text = f"files it writes to out={out} do not arrive here"
            return Finding("FAIL", node.address, text, "mount the same storage")
        time.sleep(0.2)
    return Finding("ok", node.address, f"reads and writes {out}")
