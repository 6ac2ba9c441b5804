import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mshisto_ray.store import shards


def table(values: np.ndarray, mpp: float) -> pa.Table:
    num = len(values)
    columns = {
        "mpp": pa.array(np.full(num, mpp)),
        "row": pa.array(np.arange(num, dtype=np.int32)),
        "rgb": shards.tensor_column(values),
    }
    return pa.table(columns)


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@pytest.mark.parametrize("num", [0, 1, 7])
def test_vectors_come_back_as_written(tmp_path, dtype, num):
    values = np.random.default_rng(0).normal(size=(num, 5)).astype(dtype)
    path = tmp_path / "a" / "shard.parquet"
    shards.write_shard(path, [table(values, 0.5)], {"failures": []})
    back = shards.tensor_values(shards.read_shard(path)["rgb"])
    assert back.dtype == dtype
    np.testing.assert_array_equal(back, values)
    assert shards.read_metadata(path) == {"failures": []}
    column = pq.read_table(path).schema.field("rgb").type
    assert isinstance(column, pa.FixedShapeTensorType)


def test_one_scale_reads_only_its_row_group(tmp_path):
    rng = np.random.default_rng(0)
    fine = rng.normal(size=(6, 3)).astype(np.float16)
    coarse = rng.normal(size=(2, 3)).astype(np.float16)
    path = tmp_path / "shard.parquet"
    shards.write_shard(path, [table(fine, 0.5), table(coarse, 1.0)], {})
    assert pq.ParquetFile(path).num_row_groups == 2
    back = shards.read_shard(path, columns=["rgb"], mpp=1.0)
    np.testing.assert_array_equal(shards.tensor_values(back["rgb"]), coarse)
    assert back.column_names == ["rgb"]
    none = shards.read_shard(path, mpp=2.0)
    assert shards.tensor_values(none["rgb"]).shape == (0, 3)


def test_no_dictionary_for_vectors(tmp_path):
    path = tmp_path / "shard.parquet"
    shards.write_shard(path, [table(np.ones((50, 4), np.float32), 0.5)], {})
    group = pq.ParquetFile(path).metadata.row_group(0)
    vector = [
        group.column(i)
        for i in range(group.num_columns)
        if group.column(i).path_in_schema.startswith("rgb")
    ]
    assert vector
    assert "RLE_DICTIONARY" not in vector[0].encodings


def test_an_incomplete_file_is_no_shard(tmp_path):
    path = tmp_path / "shard.parquet"
    assert shards.read_metadata(path) is None
    shards.write_shard(path, [table(np.ones((50, 4), np.float32), 0.5)], {"done": 1})
    path.write_bytes(path.read_bytes()[:-20])
    assert shards.read_metadata(path) is None


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path):
    path = tmp_path / "shard.parquet"
    shards.write_shard(path, [table(np.ones((2, 4), np.float32), 0.5)], {"first": 1})
    other = pa.table({"different": [1]})
    with pytest.raises(ValueError, match="schema"):
        shards.write_shard(
            path, [table(np.ones((2, 4), np.float32), 0.5), other], {"second": 1}
        )
    assert shards.read_metadata(path) == {"first": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["shard.parquet"]


def test_match_tiles():
    left = (np.array(["a", "a", "b"]), np.array([0.5, 1.0, 0.5]), [0, 0, 1], [2, 2, 3])
    right = (np.array(["b", "a"]), np.array([0.5, 0.5]), [1, 0], [3, 2])
    np.testing.assert_array_equal(shards.match_tiles(left, right), [1, -1, 0])


def test_a_writer_that_an_exception_ends_leaves_nothing(tmp_path):
    path, rows = tmp_path / "some" / "rows.parquet", pa.table({"a": [1, 2]})
    with pytest.raises(KeyError), shards.ShardWriter(path) as writer:
        writer.add(rows, {"made": "here"})
        raise KeyError
    assert list(path.parent.iterdir()) == []
    with shards.ShardWriter(path) as writer:
        writer.add(rows, {"made": "here"})
        writer.add(rows.slice(0, 0))
        assert not path.exists()
        writer.add(rows.slice(1))
    assert pq.read_table(path)["a"].to_pylist() == [1, 2, 2]
    assert shards.read_metadata(path) == {"made": "here"}
    with shards.ShardWriter(tmp_path / "nothing.parquet"):
        pass
    assert not (tmp_path / "nothing.parquet").exists()
