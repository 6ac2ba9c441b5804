"""HDF5 files of other software, opened so that none of them ends or deceives a run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py

from mshisto_ray.store.errors import UnitError

# 1.6 million tiles of 2,560 features in float32: no slide has as many.
_MOST_BYTES = 16 * 2**30
# Above this, values that compress better than 100 to 1 were never written: features
# hardly compress at all.
_FEW_BYTES, _MOST_PER_STORED = 64 * 2**20, 100


class H5Error(UnitError):
    """A file of features cannot be used; ``name`` identifies the cause."""


@contextmanager
def opened(path: Path, content: str) -> Iterator[h5py.File]:
    """An open file; whatever a damaged one makes h5py raise is an H5Error.

    Raises:
        H5Error: not such a file, or a damaged one.
        OSError: the storage fails.
    """
    if path.is_dir():
        raise H5Error("BadH5", f"{path.name} is a folder: give files")
    try:
        with h5py.File(path) as file:
            yield file
    except H5Error:
        raise
    except Exception as error:  # damaged files raise any type
        if isinstance(error, OSError) and error.errno:
            raise
        raise H5Error(
            "BadH5",
            f"{path.name}: no HDF5 file with {content} as TRIDENT and CLAM write them "
            f"({type(error).__name__}: {error}): extract it again",
        ) from None


def dataset(file: h5py.File, name: str) -> h5py.Dataset:
    """A dataset whose values lie in the file itself, of a size that can be read.

    A link or raw storage outside may name any file that this process can read, and a
    header of 2 kB may claim terabytes.
    """
    if isinstance(file.get(name, getlink=True), h5py.ExternalLink):
        raise H5Error(
            "OutsideData", f"`{name}` links to another file: copy the values into it"
        )
    found = file[name]
    if not isinstance(found, h5py.Dataset):
        raise H5Error("BadH5", f"`{name}` is not an array: extract it again")
    if found.external or found.is_virtual or found.file.filename != file.filename:
        raise H5Error(
            "OutsideData",
            f"the values of `{name}` lie in another file: copy them into this one",
        )
    stored = found.id.get_storage_size()
    if found.nbytes and not stored:
        raise H5Error("BadH5", f"`{name}` holds no values: extract it again")
    if found.nbytes > _MOST_BYTES:
        raise H5Error(
            "TooLarge",
            f"`{name}` claims {found.nbytes / 2**30:,.0f} GiB, more than "
            f"{_MOST_BYTES / 2**30:g}: damaged? extract it again",
        )
    if found.nbytes > max(_FEW_BYTES, _MOST_PER_STORED * stored):
        raise H5Error(
            "TooLarge",
            f"`{name}` claims {found.nbytes / 2**20:,.0f} MiB, of which the file holds "
            f"{stored / 2**20:,.1f}: most of it was never written; extract it again",
        )
    return found
