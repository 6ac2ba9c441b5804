"""An encoder that is a graph in an ONNX file, run by onnxruntime."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mshisto_ray.backbone.transform import InputTransform
from mshisto_ray.config import InputError

_TYPES = {
    "tensor(uint8)": np.uint8,
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
}
# Side of the tiles that a graph of any size is tried with.
_PROBE_PX = 224
# Tiles per call on a CPU, whose caches hold their maps; on a GPU all are one call.
_CPU_STEP = 8


@dataclass(frozen=True)
class GraphInput:
    """The images that a graph takes: axes in order, dtype, side and batch if fixed."""

    name: str
    channels_last: bool
    dtype: Any
    size: int | None
    batch: int | None


class GraphEncoder:
    """One output of a graph, [B, D]; computed in the precision of its session.

    ``path``: of its file. ``transform``: for a graph of uint8 it has mean 0 and std
    1/255, which keep the values. ``step``: tiles per call of a graph that takes any
    number of them, None: all.
    """

    def __init__(
        self,
        path: Path,
        session: Any,
        takes: GraphInput,
        output: str,
        transform: InputTransform,
        digest: str,
        step: int | None = _CPU_STEP,
    ):
        self.path, self.digest, self.warnings = path, digest, ()
        self.takes, self.output, self.transform = takes, output, transform
        self._session = session
        self._step = takes.batch or step
        side = takes.size or transform.size or _PROBE_PX
        try:
            self.dim = self(np.zeros((1, side, side, 3), np.uint8)).shape[1]
        except RuntimeError as error:
            raise InputError(
                f"encoder: {path} does not take tiles of {side} px ({error}): set size "
                "to what its network takes, and fit: resize or crop for other tiles"
            ) from None

    @torch.inference_mode()
    def __call__(self, tiles: np.ndarray) -> np.ndarray:
        """uint8 [B, H, W, 3] RGB to float32 [B, D]."""
        step = self._step or len(tiles)
        parts = [self._encode(tiles[i : i + step]) for i in range(0, len(tiles), step)]
        return np.concatenate(parts)

    def _encode(self, tiles: np.ndarray) -> np.ndarray:
        pixels = torch.from_numpy(np.ascontiguousarray(tiles))
        batch = self.transform.apply(pixels)
        side = self.takes.size
        if side and batch.shape[-1] != side:
            raise InputError(
                f"encoder: the graph takes tiles of {side} px, got {batch.shape[-1]}; "
                f"set fit: resize or crop, and size: {side}"
            )
        if self.takes.channels_last:
            batch = batch.permute(0, 2, 3, 1)
        if self.takes.dtype == np.uint8:
            batch = batch.round().clamp(0, 255)
        values = batch.numpy().astype(self.takes.dtype, copy=False)
        fixed = self.takes.batch or 0
        if len(values) < fixed:  # the last ones of a graph of so many images a call
            more = np.zeros((fixed - len(values), *values.shape[1:]), values.dtype)
            values = np.concatenate([values, more])
        return self._run(np.ascontiguousarray(values))[: len(tiles)]

    def _run(self, batch: np.ndarray) -> np.ndarray:
        try:
            (found,) = self._session.run([self.output], {self.takes.name: batch})
        except Exception as error:  # onnxruntime has no common class
            first = (str(error).splitlines() or [""])[0]
            raise RuntimeError(f"the graph: {first}") from error
        values = np.asarray(found, dtype=np.float32)
        if values.ndim > 2 and values.shape[2:] == (1,) * (values.ndim - 2):
            values = values.reshape(values.shape[:2])
        if values.ndim != 2:
            raise InputError(
                f"encoder: output {self.output} of the graph is {values.shape}, not "
                "one vector a tile; name another one: output, or average it over a "
                "tile's places before the graph is saved"
            )
        return values


def open_graph(path: Path, device: str) -> Any:
    """A session of onnxruntime with as many threads as torch has here.

    Raises:
        InputError: onnxruntime is not installed or has no GPUs, or not an ONNX file.
    """
    try:
        import onnxruntime
    except ImportError:
        raise InputError(
            "encoder: onnxruntime is not installed: pip install 'mshisto-ray[onnx]'"
        ) from None
    provider, settings = "CPUExecutionProvider", {}
    if device.startswith("cuda"):
        # By default it multiplies float32 in TF32, with 10 bits.
        provider, settings = "CUDAExecutionProvider", {"use_tf32": "0"}
        if provider not in onnxruntime.get_available_providers():
            raise InputError(
                "encoder: the onnxruntime installed here runs on CPUs only: set "
                "runtime.gpus=0, or pip install onnxruntime-gpu in its place"
            )
    if not path.is_file():
        raise InputError(f"encoder: no such ONNX file: {path}")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.inter_op_num_threads = 1
    options.log_severity_level = 4  # errors are raised, and said in one line
    try:
        return onnxruntime.InferenceSession(
            path, options, providers=[(provider, settings)]
        )
    except Exception as error:  # onnxruntime has no common class
        first = (str(error).splitlines() or [""])[0]
        raise InputError(
            f"encoder: {path} is no ONNX file that onnxruntime opens ({first}): "
            "truncated, or a git LFS pointer? copy it again, with its data files"
        ) from None


def read_input(session: Any, path: Path) -> GraphInput:
    """The images that a graph takes.

    Raises:
        InputError: no single input, or not images of three channels.
    """
    inputs = session.get_inputs()
    one = inputs[0] if len(inputs) == 1 else None
    shape: list[Any] = list(one.shape) if one else []
    dtype = _TYPES.get(one.type) if one else None
    last = len(shape) == 4 and shape[-1] == 3
    first = len(shape) == 4 and shape[1] == 3
    if one is None or dtype is None or last == first:
        found = ", ".join(f"{i.name} {i.type} {i.shape}" for i in inputs)
        raise InputError(
            f"encoder: {path} does not take RGB images alone ({found}); wanted is one "
            "input [N, 3, H, W] or [N, H, W, 3] of uint8, float32 or float16"
        )
    sides = shape[1:3] if last else shape[2:]
    fixed = {side for side in sides if isinstance(side, int)}
    if len(fixed) > 1:
        raise InputError(
            f"encoder: {path} takes images of {' x '.join(map(str, shape))}, tiles are "
            "square: export it with one side"
        )
    batch = shape[0] if isinstance(shape[0], int) else None
    return GraphInput(one.name, last, dtype, min(fixed, default=None), batch)


def choose_output(session: Any, wanted: str | None) -> str:
    """Name of an output of a graph.

    Raises:
        InputError: no such output, or several and none is named.
    """
    names: list[str] = [output.name for output in session.get_outputs()]
    if wanted is None and len(names) == 1:
        return names[0]
    if wanted is None or wanted not in names:
        given = "" if wanted is None else f"no output {wanted!r}; "
        raise InputError(
            f"encoder: {given}the graph has {', '.join(names)}: name one: output"
        )
    return wanted


def graph_digest(path: Path, described: dict[str, Any]) -> str:
    """Digest of a graph's file, of its data files, and of how it is used."""
    digest = hashlib.blake2b(digest_size=16)
    digest.update(json.dumps(described, sort_keys=True).encode())
    for file in [path, *_data_files(path)]:
        with file.open("rb") as opened:
            digest.update(hashlib.file_digest(opened, "blake2b").digest())
    return digest.hexdigest()


def _data_files(path: Path) -> list[Path]:
    """Files beside a graph that hold weights too large for it."""
    import onnx

    graph = onnx.load(path, load_external_data=False).graph
    held = {
        entry.value
        for tensor in graph.initializer
        if tensor.data_location == onnx.TensorProto.EXTERNAL
        for entry in tensor.external_data
        if entry.key == "location"
    }
    return [path.parent / name for name in sorted(held)]
