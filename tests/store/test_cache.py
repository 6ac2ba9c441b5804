import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow.parquet as pq
import pytest

from mshisto_ray.config import InputError
from mshisto_ray.store.cache import CacheConfig, open_features
from mshisto_ray.store.embeddings import EmbeddingDirectory
from mshisto_ray.store.features import ArrayFeatures, ParquetFeatures
from mshisto_ray.store.shards import (
    read_metadata,
    tensor_column,
    tensor_values,
    write_shard,
)

KIB = 1 / (1 << 20)  # in GiB
SIZES = {"s0": 5, "s1": 0, "s2": 9, "s3": 1}


def slides(seed=0, dim=4, factor=1):
    rng = np.random.default_rng(seed)
    return {
        slide: {
            mpp: rng.normal(size=(n * factor, dim)).astype(np.float16)
            for mpp in (0.5, 1.0)
        }
        for slide, n in SIZES.items()
    }


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "cache"


def config(folder, kib=1024.0):
    return CacheConfig(dir=folder, max_gib=kib * KIB)


def entries(folder):
    return sorted(p.name for p in folder.iterdir() if p.is_dir())


@pytest.mark.parametrize("max_gib", [1, 0], ids=["mapped", "parquet"])
@pytest.mark.parametrize("mpp", [0.5, 1.0])
def test_features_are_the_own_tiles_in_order(make_embeddings, folder, mpp, max_gib):
    truth = slides()
    directory = EmbeddingDirectory(make_embeddings(truth))
    found = open_features(directory, mpp, CacheConfig(dir=folder, max_gib=max_gib))
    assert isinstance(found, ArrayFeatures if max_gib else ParquetFeatures)
    assert list(found.slide_ids) == list(truth) and found.dim == 4
    wanted = [v[mpp] if mpp == 0.5 else v[mpp][:-1] for v in truth.values()]
    assert found.counts.tolist() == [len(w) for w in wanted]
    for index, values in enumerate(wanted):
        np.testing.assert_array_equal(found.read(index), values)


def test_a_second_process_maps_what_the_first_built(
    make_embeddings, folder, monkeypatch
):
    directory = EmbeddingDirectory(make_embeddings(slides()))
    first = open_features(directory, 0.5, config(folder))
    built = (folder / entries(folder)[0] / "features.npy").stat().st_ino
    monkeypatch.setattr(EmbeddingDirectory, "read", None)
    second = open_features(directory, 0.5, config(folder))
    assert isinstance(second.values, np.memmap)
    np.testing.assert_array_equal(first.values, second.values)
    assert (folder / entries(folder)[0] / "features.npy").stat().st_ino == built


def test_a_shard_that_was_written_anew_is_read_anew(make_embeddings, folder):
    truth = slides()
    path = make_embeddings(truth)
    first = open_features(EmbeddingDirectory(path), 0.5, config(folder))
    shard = next(path.glob("shards/s0/*"))
    table, kept = pq.read_table(shard), read_metadata(shard)
    at = table.column_names.index("rgb")
    values = tensor_column(tensor_values(table["rgb"]) * np.float16(np.nan))
    write_shard(shard, [table.set_column(at, table.schema.field(at), values)], kept)
    second = open_features(EmbeddingDirectory(path), 0.5, config(folder))
    assert np.isfinite(first.read(0)).all() and np.isnan(second.read(0)).any()
    np.testing.assert_array_equal(first.read(2), second.read(2))


def test_a_missing_shard_is_refused_before_work(make_embeddings, folder):
    path = make_embeddings(slides())
    open_features(EmbeddingDirectory(path), 0.5, config(folder))
    next(path.glob("shards/s0/*")).unlink()
    with pytest.raises(InputError, match=r"s0.*missing; run mshisto embed again"):
        open_features(EmbeddingDirectory(path), 0.5, config(folder))


def test_scales_and_embeddings_have_their_own_entries(make_embeddings, folder):
    one = EmbeddingDirectory(make_embeddings(slides(0), "one"))
    grown = {**slides(0), "s9": slides(1)["s0"]}
    two = EmbeddingDirectory(make_embeddings(grown, "two"))
    for directory in (one, two):
        for mpp in (0.5, 1.0):
            open_features(directory, mpp, config(folder))
    assert len(entries(folder)) == 4


def test_a_directory_without_tiles_at_the_scale(make_embeddings, folder):
    empty = {"s0": {0.5: np.zeros((3, 4)), 1.0: np.zeros((1, 4))}}
    directory = EmbeddingDirectory(make_embeddings(empty))
    found = open_features(directory, 1.0, config(folder))
    assert found.counts.tolist() == [0] and found.read(0).shape == (0, 4)


def test_entries_unused_for_longest_make_room(make_embeddings, folder):
    # 15 tiles x 4 x 2 bytes and two .npy headers: under 1 KiB an entry.
    directories = [
        EmbeddingDirectory(make_embeddings(slides(i, dim=4 + i), f"e{i}"))
        for i in range(3)
    ]
    for i, directory in enumerate(directories[:2]):
        open_features(directory, 0.5, config(folder))
        entry = next(folder.glob(f"{directory.digest}*own"))
        os.utime(entry, (i, i))
    open_features(directories[0], 0.5, config(folder))  # used again: now the newest
    open_features(directories[2], 0.5, config(folder, 1))
    kept = " ".join(entries(folder))
    assert directories[1].digest not in kept and directories[2].digest in kept


def test_an_entry_in_use_is_kept_and_the_other_read_from_parquet(
    make_embeddings, folder
):
    used = EmbeddingDirectory(make_embeddings(slides(0, factor=5), "used"))
    other = EmbeddingDirectory(make_embeddings(slides(1, factor=5), "other"))
    first = open_features(used, 0.5, config(folder))
    second = open_features(other, 0.5, config(folder, 0.8))
    assert isinstance(second, ParquetFeatures)
    assert len(entries(folder)) == 1
    del first
    third = open_features(other, 0.5, config(folder, 0.8))
    assert isinstance(third, ArrayFeatures)
    assert len(entries(folder)) == 1


def test_many_threads_build_once(make_embeddings, folder, monkeypatch):
    directory = EmbeddingDirectory(make_embeddings(slides()))
    reads = []
    plain = EmbeddingDirectory.read

    def read(self, slide_id, mpp, own_only=True, colour=None):
        reads.append(slide_id)
        time.sleep(0.01)
        return plain(self, slide_id, mpp, own_only, colour)

    monkeypatch.setattr(EmbeddingDirectory, "read", read)
    with ThreadPoolExecutor(6) as pool:
        work = [
            pool.submit(open_features, directory, 0.5, config(folder)) for _ in range(6)
        ]
        found = [w.result() for w in work]
    assert sorted(reads) == sorted(SIZES)
    for features in found:
        np.testing.assert_array_equal(features.values, found[0].values)


BUILDER = """
import sys, time
from pathlib import Path
from mshisto_ray.store.cache import CacheConfig, open_features
from mshisto_ray.store.embeddings import EmbeddingDirectory
plain = EmbeddingDirectory.read
def read(self, slide_id, mpp, own_only=True, colour=None):
    if slide_id == "s2":
        print("half", flush=True)
        time.sleep(60)
    return plain(self, slide_id, mpp, own_only, colour)
EmbeddingDirectory.read = read
directory = EmbeddingDirectory(Path(sys.argv[1]))
open_features(directory, 0.5, CacheConfig(dir=Path(sys.argv[2]), max_gib=1))
"""


def test_a_killed_builder_leaves_nothing_that_is_read(make_embeddings, folder):
    path = make_embeddings(slides())
    command = [sys.executable, "-c", BUILDER, str(path), str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as builder:
        assert builder.stdout.readline() == "half\n"
        assert entries(folder)[0].endswith(".tmp")
        builder.send_signal(signal.SIGKILL)
    directory = EmbeddingDirectory(path)
    found = open_features(directory, 0.5, config(folder))
    assert isinstance(found, ArrayFeatures)
    np.testing.assert_array_equal(found.read(2), slides()["s2"][0.5])
    assert entries(folder) == [f"{directory.digest}-{directory.written}-0.5-own"]


def test_a_full_disk_means_parquet(make_embeddings, folder, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    directory = EmbeddingDirectory(make_embeddings(slides()))
    found = open_features(directory, 0.5, config(folder))
    assert isinstance(found, ParquetFeatures)
    assert entries(folder) == []


def test_a_folder_that_cannot_be_made_is_refused(make_embeddings, tmp_path):
    (tmp_path / "file").write_text("")
    directory = EmbeddingDirectory(make_embeddings(slides()))
    with pytest.raises(InputError, match=r"runtime\.cache\.dir"):
        open_features(directory, 0.5, config(tmp_path / "file" / "cache"))


def test_a_folder_that_others_may_write_into_is_refused(make_embeddings, tmp_path):
    directory = EmbeddingDirectory(make_embeddings(slides()))
    folder = tmp_path / "shared"
    folder.mkdir()
    folder.chmod(0o777)
    with pytest.raises(InputError, match=r"runtime\.cache\.dir: .*others may write"):
        open_features(directory, 0.5, CacheConfig(dir=folder))
    folder.chmod(0o750)
    open_features(directory, 0.5, CacheConfig(dir=folder))
