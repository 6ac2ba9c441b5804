"""Weights: found, read without running code, fitted to a network, downloaded."""

from __future__ import annotations

import contextlib
import logging
import warnings
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import nn

from mshisto_ray.config import InputError

# Prefixes that other tools give to the weights of a wrapped network.
_PREFIXES = ("module.", "model.", "backbone.", "encoder.", "teacher.", "student.")
# Names that model hubs give to the one file of weights in a directory, and the ends of
# others.
_USUAL = ("model.safetensors", "pytorch_model.bin", "encoder.safetensors")
_ENDS = (".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".torch", ".onnx")
_POINTER = b"version https://git-lfs"
_OPTIONS = (
    "Give the options it was trained with beside `model`, as num_classes: 1001 (also "
    "img_size, pad_type, ...), or another model"
)


def find_weights(path: Path, preferred: Sequence[str] = ()) -> Path:
    """The weights file at a path, which is the file itself or a directory with it.

    In a directory ``preferred`` names come first, then the usual names of model hubs,
    then a file that is the only one with weights.

    Raises:
        InputError: nothing is there, or several files in a directory could be meant.
    """
    if not path.is_dir():
        if not path.is_file():
            raise InputError(f"encoder: no such weights file: {path}")
        return path
    for names in (preferred, _USUAL):
        found = [path / name for name in names if (path / name).is_file()]
        if names is preferred and found:
            return found[0]
        if len(found) == 1:
            return found[0]
    files = sorted(p for p in path.iterdir() if p.suffix in _ENDS and p.is_file())
    if len(files) == 1:
        return files[0]
    if not files:
        raise InputError(
            f"encoder: {path} holds no weights (a file ending with {', '.join(_ENDS)})"
        )
    listed = ", ".join(p.name for p in files)
    raise InputError(
        f"encoder: {path} holds {len(files)} files that could be the weights "
        f"({listed}); give the path of one file"
    )


def read_state(path: Path) -> dict[str, torch.Tensor]:
    """Tensors of a weights file; code in it is never run.

    Safetensors, or a PyTorch file of a state_dict, read with ``weights_only=True``.

    Raises:
        InputError: no such file, or not one that is safe to read.
    """
    if not path.is_file():
        raise InputError(f"encoder: no such weights file: {path}")
    if _is_pointer(path):
        raise InputError(
            f"encoder: {path} is a pointer of git LFS, not the weights: run git lfs "
            "pull where it was cloned, or download the file itself"
        )
    if path.suffix == ".safetensors":
        try:
            return safetensors.torch.load_file(path)
        except safetensors.SafetensorError as error:
            raise InputError(
                f"encoder: {path} is not a safetensors file ({error}): truncated? copy "
                "it again"
            ) from None
    if _is_torchscript(path):
        raise InputError(
            f"encoder: {path} is a TorchScript archive: a program, and loading it "
            "would run it; where it was made, save its state_dict() as safetensors, or "
            "export the network to ONNX and give encoder='{name: onnx, path: FILE}'"
        )
    content = _unpickled(path)
    for key in ("state_dict", "model", "teacher"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if not isinstance(content, dict):
        raise InputError(
            f"encoder: {path} holds a {type(content).__name__}, not weights by name; "
            "save the state_dict() of the network"
        )
    return {k: v for k, v in content.items() if isinstance(v, torch.Tensor)}


def _unpickled(path: Path) -> Any:
    """What a PyTorch file holds, without running code of it."""
    try:
        with warnings.catch_warnings():
            # Of another pickle protocol: it is read, or refused below.
            warnings.filterwarnings("ignore", "Detected pickle protocol", UserWarning)
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise InputError(
            f"encoder: {path} cannot be read as plain weights "
            f"({type(error).__name__}): if it is truncated, copy it again; if it holds "
            "more than weights, save them as safetensors or as a state_dict"
        ) from None


def _is_pointer(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(_POINTER)) == _POINTER


def _is_torchscript(path: Path) -> bool:
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any("/code/" in name for name in archive.namelist())


def load_weights(network: nn.Module, path: Path, advice: str = _OPTIONS) -> None:
    """Load weights strictly; any mismatch is an error that lists the differences.

    Args:
        network: its parameters may be on the meta device.
        path: see ``read_state``.
        advice: end of the error where names or shapes do not fit.

    Raises:
        InputError: no such file, not safe to read, or names or shapes do not fit.
    """
    load_state(network, read_state(path), path, advice)


def load_state(
    network: nn.Module,
    state: dict[str, torch.Tensor],
    path: Path,
    advice: str = _OPTIONS,
) -> None:
    """Load tensors that were read from a path; see ``load_weights``."""
    wanted = network.state_dict()
    state = _strip(state, set(wanted))
    problems = _differences(state, wanted)
    if problems:
        raise InputError(
            f"encoder: {path} does not fit the network: {'; '.join(problems)}. {advice}"
        )
    typed = {name: value.to(wanted[name].dtype) for name, value in state.items()}
    on_meta = any(value.is_meta for value in wanted.values())
    network.load_state_dict(typed, assign=on_meta)


def _differences(
    state: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor]
) -> list[str]:
    """What keeps weights from fitting, a phrase each."""
    problems = []
    missing = sorted(wanted.keys() - state.keys())
    surplus = sorted(state.keys() - wanted.keys())
    for what, names in (("lacks", missing), ("also has", surplus)):
        if names:
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            problems.append(f"{what} {', '.join(names[:3])}{more}")
    shapes = [
        f"{name} is {tuple(state[name].shape)} in the file, "
        f"{tuple(wanted[name].shape)} in the network"
        for name in sorted(wanted.keys() & state.keys())
        if state[name].shape != wanted[name].shape
    ]
    return problems + shapes[:3]


def _strip(state: dict[str, torch.Tensor], wanted: set[str]) -> dict[str, torch.Tensor]:
    """Remove the prefixes of wrappers from the names, unless two would coincide."""

    def bare(name: str) -> str:
        while name not in wanted:
            prefix = next((p for p in _PREFIXES if name.startswith(p)), None)
            if prefix is None:
                return name
            name = name.removeprefix(prefix)
        return name

    stripped = {bare(name): value for name, value in state.items()}
    return stripped if len(stripped) == len(state) else state


def download_weights(network: nn.Module, model: str) -> None:
    """Load timm's own weights of a network, from its cache or the network.

    Raises:
        InputError: there are none, or they cannot be had from here.
    """
    from timm.models import load_pretrained

    try:
        with quiet_download():
            load_pretrained(network)  # pyright: ignore[reportArgumentType]
    except Exception as error:  # of any library between here and the server
        raise InputError(
            f"weights=pretrained: cannot be downloaded ({first_sentence(error)}): on a "
            'machine with a connection run python -c "import timm; '
            f"timm.create_model('{model}', pretrained=True)\" and copy its file, then "
            "give weights=/path/to/file"
        ) from None


@contextlib.contextmanager
def quiet_download() -> Iterator[None]:
    """Keep the hub's lines on each try that failed from the user, who gets one."""
    log = logging.getLogger("huggingface_hub")
    level = log.level
    log.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        log.setLevel(level)


def first_sentence(error: Exception) -> str:
    """Kind and first sentence of an error of another library."""
    line = (str(error).splitlines() or [""])[0]
    return f"{type(error).__name__}: {line.split('. ')[0].rstrip('.')}"
