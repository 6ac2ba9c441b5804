"""Identity of a slide file by its content, whatever its path and modification time."""

from __future__ import annotations

import hashlib
import logging
import queue
import stat
import threading
from collections.abc import Sequence
from pathlib import Path

from mshisto_ray.store.errors import UnitError

log = logging.getLogger(__name__)

_BLOCK = 1 << 16
_NUM_BLOCKS = 16
_THREADS = 16
_LIMIT_S = 60.0


def slide_fingerprint(path: Path) -> str:
    """Size and quick hash of a slide: 16 blocks of 64 KiB spread over each file.

    Whole files are gigabytes, often on a network; header, tail and even samples
    distinguish scans. A MIRAX slide is its ``.mrxs`` and the folder of the same name.

    Raises:
        OSError: the file cannot be read.
        UnitError: it is neither a file nor a folder.
    """
    files = [path]
    companion = path.with_suffix("")
    if path.suffix.lower() == ".mrxs" and companion.is_dir():
        files += sorted(p for p in companion.iterdir() if p.is_file())
    if path.is_dir():
        files = sorted(p for p in path.rglob("*") if p.is_file())
    digest = hashlib.blake2b(digest_size=16)
    for file in files:
        _add(digest, file)
    return digest.hexdigest()


def _add(digest: hashlib.blake2b, path: Path) -> None:
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise UnitError(
            "NotAFile", f"{path} is a pipe, a socket or a device: give a regular file"
        )
    size = status.st_size
    digest.update(str(size).encode())
    last = max(0, size - _BLOCK)
    starts = sorted({last * i // (_NUM_BLOCKS - 1) for i in range(_NUM_BLOCKS)})
    with path.open("rb") as file:
        for start in starts:
            file.seek(start)
            digest.update(file.read(_BLOCK))


def is_empty(fingerprint: str) -> bool:
    """Whether a fingerprint is that of a file without a byte, as failed copies are."""
    return fingerprint == hashlib.blake2b(b"0", digest_size=16).hexdigest()


def fingerprints(
    paths: Sequence[Path], limit_s: float = _LIMIT_S
) -> dict[Path, str | None]:
    """Fingerprint of each file; None where it cannot be read.

    A storage that does not answer would hold this process for ever: when no file at
    all is read for ``limit_s`` seconds, the rest count as files that cannot be read,
    and a warning says so.
    """
    waiting: queue.SimpleQueue[Path] = queue.SimpleQueue()
    done: queue.SimpleQueue[tuple[Path, str | None]] = queue.SimpleQueue()
    found: dict[Path, str | None] = dict.fromkeys(paths)
    for path in found:
        waiting.put(path)

    def read() -> None:
        while True:
            try:
                path = waiting.get_nowait()
            except queue.Empty:
                return
            done.put((path, _fingerprint_or_none(path)))

    # Not a pool, which would wait for threads that hang before the process can end.
    for _ in range(min(_THREADS, len(found))):
        threading.Thread(target=read, daemon=True).start()
    for number in range(len(found)):
        try:
            path, fingerprint = done.get(timeout=limit_s)
        except queue.Empty:
            log.warning(
                "%d of %d files could not be read within %g s: does their storage "
                "answer? They are failures that the next run retries",
                len(found) - number, len(found), limit_s,
            )  # fmt: skip
            break
        found[path] = fingerprint
    return found


def _fingerprint_or_none(path: Path) -> str | None:
    try:
        return slide_fingerprint(path)
    except (OSError, UnitError):
        return None
