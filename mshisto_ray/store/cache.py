"""Node cache of embeddings: one memory-mapped array, shared by the node's processes.

An entry is ``<cache dir>/<embeddings digest>-<shards digest>-<mpp>-own/`` with
``features.npy`` [N, D] (own tiles of every slide, slide by slide; ``-all``: ancestors
too) and ``offsets.npy`` [S + 1]. The second digest is of the shards' sizes and times:
where one was written anew, an entry of its former values is not used. An entry is built
once, under the lock ``<entry>.build``, and renamed into place, so it is complete or
absent. Builders and readers of an entry share ``<entry>.lock``; removing the entry
takes that lock exclusively. Locks belong to open files: a killed process holds none.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import shutil
import tempfile
import uuid
import weakref
from pathlib import Path
from typing import BinaryIO

import numpy as np

from mshisto_ray.config import Config, InputError, OutputPath, option
from mshisto_ray.store.embeddings import EmbeddingDirectory
from mshisto_ray.store.features import (
    ArrayFeatures,
    Features,
    ParquetFeatures,
    count_tiles,
)

log = logging.getLogger(__name__)

_GIB = 1 << 30


class CacheConfig(Config):
    """The node cache of embeddings."""

    dir: OutputPath = option(
        Path(tempfile.gettempdir()) / f"mshisto_ray-cache-{os.getuid()}",
        "a folder on each node's own disk",
    )
    max_gib: float = option(
        50.0,
        "limit on the size of all entries together; embeddings above it are read from "
        "Parquet in every epoch; 0: no cache",
        unit="GiB",
        ge=0,
    )


class _Lock:
    """File lock of an entry, released by close, deletion or the end of the process."""

    def __init__(self, entry: Path, kind: str = "lock"):
        self._entry = entry
        path = entry.with_name(f"{entry.name}.{kind}")
        self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        self.close = weakref.finalize(self, os.close, self._file)

    def __enter__(self) -> _Lock:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def share(self) -> None:
        """Take a shared lock; wait while another process holds it exclusively."""
        fcntl.flock(self._file, fcntl.LOCK_SH)

    def take(self) -> None:
        """Take the lock exclusively; wait, and say so, while another process has it."""
        if not self.try_to_take():
            log.warning("waiting for another process to fill %s", self._entry)
            fcntl.flock(self._file, fcntl.LOCK_EX)

    def try_to_take(self) -> bool:
        """Take the lock exclusively; return False at once if it is held."""
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


def open_features(
    directory: EmbeddingDirectory,
    mpp: float,
    config: CacheConfig,
    own_only: bool = True,
    colour: str | None = None,
) -> Features:
    """Own tiles (or all) of every complete slide at a scale, from this node's cache.

    ``colour``: one of the colour modes, None for the first.

    Builds a missing entry, or waits while another process builds it. Embeddings that
    do not fit (the limit, beside entries in use, the disk) are read from Parquet
    instead.

    Raises:
        InputError: a shard is missing, or another user may write into the cache.
    """
    rows = sum(directory.num_rows(s, mpp) for s in directory.slide_ids)
    limit = int(config.max_gib * _GIB)
    if rows * directory.dim * _dtype(directory).itemsize > limit:
        return _uncached(directory, mpp, own_only, colour)
    _make_folder(config.dir)
    kind = "own" if own_only else "all"
    if colour not in (None, directory.colours[0]):
        kind += f"-{colour}"
    name = f"{directory.digest}-{directory.written}-{mpp!r}-{kind}"
    entry = config.dir / name
    # Held as long as the features exist, so that no process removes the entry.
    lock = _Lock(entry)
    lock.share()
    if not entry.is_dir():
        with _Lock(entry, "build") as building:
            building.take()
            if not entry.is_dir() and not _build(
                directory, mpp, own_only, colour, entry, limit
            ):
                lock.close()
                return _uncached(directory, mpp, own_only, colour)
    os.utime(entry)
    offsets = np.load(entry / "offsets.npy")
    # Copy on write: torch refuses to wrap arrays that it may not write to.
    mode = "c" if offsets[-1] else None
    values = np.load(entry / "features.npy", mmap_mode=mode)
    return ArrayFeatures(directory.slide_ids, values, offsets, lock)


def _make_folder(folder: Path) -> None:
    """Make the folder, or refuse one into which another user can write.

    All users of a node may reach it, and what lies there becomes features.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = folder.stat()
    except OSError as error:
        message = f"runtime.cache.dir: cannot create the folder: {error}"
        raise InputError(message) from None
    if found.st_uid != os.getuid() or found.st_mode & 0o022:
        raise InputError(
            f"runtime.cache.dir: {folder} belongs to another user, or others may write "
            "into it: give another folder, or chmod go-w it"
        )


def _uncached(
    directory: EmbeddingDirectory, mpp: float, own_only: bool, colour: str | None
) -> ParquetFeatures:
    counts = count_tiles(directory, mpp, own_only)
    return ParquetFeatures(directory, mpp, counts, own_only, colour)


def _build(
    directory: EmbeddingDirectory,
    mpp: float,
    own_only: bool,
    colour: str | None,
    entry: Path,
    limit: int,
) -> bool:
    """Write an entry while its build lock is held; False if it does not fit."""
    counts = count_tiles(directory, mpp, own_only)
    offsets = np.concatenate([[0], counts.cumsum()]).astype(np.int64)
    kind = _dtype(directory)
    size = int(offsets[-1]) * directory.dim * kind.itemsize
    temporary = entry.with_name(f"{entry.name}.{uuid.uuid4().hex[:12]}.tmp")
    try:
        with _Lock(entry.parent / "all") as all_entries:
            all_entries.take()
            if not _make_room(entry, limit - size):
                return False
            temporary.mkdir()
            file = _reserve(
                temporary / "features.npy", (int(offsets[-1]), directory.dim), kind
            )
        with file:
            for index, slide_id in enumerate(directory.slide_ids):
                values = directory.read(slide_id, mpp, own_only, colour).values
                assert len(values) == counts[index], slide_id
                file.write(np.ascontiguousarray(values, kind).data)
            file.flush()
            os.fsync(file.fileno())
        np.save(temporary / "offsets.npy", offsets)
        os.rename(temporary, entry)
    except OSError:  # the disk is full or not writable
        return False
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return True


def _reserve(path: Path, shape: tuple[int, int], kind: np.dtype) -> BinaryIO:
    """Open a .npy file with its header written and its full size allocated on disk."""
    file = path.open("wb")
    try:
        header = {"descr": kind.str, "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        file.flush()
        size = shape[0] * shape[1] * kind.itemsize
        os.posix_fallocate(file.fileno(), file.tell(), max(1, size))
    except OSError:
        file.close()
        raise
    return file


def _make_room(entry: Path, room: int) -> bool:
    """Remove least recently used entries until at most ``room`` bytes are taken.

    Leftovers of killed builders are removed first, entries in use never. Returns
    whether there is room.
    """
    age: dict[Path, float] = {}
    sizes: dict[Path, int] = {}
    for folder in [p for p in entry.parent.iterdir() if p.is_dir()]:
        with contextlib.suppress(FileNotFoundError):  # being renamed by its builder
            sizes[folder] = sum(p.stat().st_size for p in folder.iterdir())
            age[folder] = 0.0 if folder.suffix == ".tmp" else folder.stat().st_mtime
    for folder in sorted(age, key=age.__getitem__):
        unfinished = folder.suffix == ".tmp"
        if not unfinished and sum(sizes.values()) <= room:
            break
        if _remove(folder, entry):
            del sizes[folder]
    return sum(sizes.values()) <= room


def _remove(folder: Path, own: Path) -> bool:
    name = folder.name
    if folder.suffix == ".tmp":
        name = name.removesuffix(".tmp").rsplit(".", 1)[0]
    if name == own.name:  # this process holds its build lock
        shutil.rmtree(folder)
        return True
    with _Lock(folder.with_name(name)) as lock:
        unused = lock.try_to_take()
        if unused:
            shutil.rmtree(folder)
        return unused


def _dtype(directory: EmbeddingDirectory) -> np.dtype:
    return np.dtype(directory.manifest.recipe["dtype"])
