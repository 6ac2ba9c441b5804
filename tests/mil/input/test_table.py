import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mshisto_ray.config import InputError
from mshisto_ray.mil.input.table import read_bag_table
from mshisto_ray.store.shards import tensor_column

ROWS = np.arange(10, dtype=np.float32).reshape(5, 2)
BAGS = ["b", "a", "b", "a", "b"]


def write(path, **columns):
    pq.write_table(pa.table(columns), path)
    return path


@pytest.fixture
def path(tmp_path):
    return tmp_path / "bags.parquet"


@pytest.mark.parametrize(
    "features",
    [
        pa.array(ROWS.tolist(), pa.list_(pa.float64())),
        pa.array(ROWS.tolist(), pa.list_(pa.float32(), 2)),
        pa.array(ROWS.astype(np.float16).tolist(), pa.large_list(pa.float16())),
        pa.array(ROWS.astype(int).tolist(), pa.list_(pa.int64())),
        tensor_column(ROWS),
    ],
    ids=lambda column: str(column.type)[:24],
)
def test_rows_are_gathered_by_bag_in_order_of_appearance(path, features):
    table = write(path, bag=BAGS, other=range(5), features=features)
    found = read_bag_table(table, ()).features
    assert found.slide_ids == ["b", "a"]
    np.testing.assert_array_equal(found.read(0), ROWS[[0, 2, 4]])
    np.testing.assert_array_equal(found.read(1), ROWS[[1, 3]])
    assert found.values.dtype == np.float32


def test_columns_are_text_per_bag(path):
    table = write(
        path,
        bag=[3, 3, 5, 5, 5],
        label=pa.array([1.0, 1.0, None, None, None]),
        patient_id=["p", "p", " q ", "q", "q"],
        features=ROWS.tolist(),
    )
    found = read_bag_table(table, ("label", "patient_id", "fold"))
    assert found.features.slide_ids == ["3", "5"]
    assert found.columns == {"label": ["1", None], "patient_id": ["p", "q"]}


def test_a_slice_of_a_table_reads_its_own_rows(path):
    """Sliced Arrow columns keep the whole buffer behind them."""
    column = pa.array(ROWS.tolist(), pa.list_(pa.float32(), 2))
    table = pa.table({"bag": BAGS, "features": column}).slice(2)
    pq.write_table(table, path)
    np.testing.assert_array_equal(
        read_bag_table(path, ()).features.read(0), ROWS[[2, 4]]
    )


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"label": BAGS}, "no column bag, features"),
        ({"bag": BAGS}, "no column features"),
        ({"bag": [], "features": pa.array([], pa.list_(pa.float32()))}, "no rows"),
        ({"bag": [None, *BAGS[1:]], "features": ROWS.tolist()}, "empty in 1 rows"),
        (
            {"bag": BAGS, "features": [[1.0], [1.0, 2.0], [1.0], [1.0], [1.0]]},
            "bag 'a' has features of width 2, bag 'b' of width 1",
        ),
        (
            {"bag": BAGS, "features": [[1.0], [float("nan")], [1.0], [1.0], [1.0]]},
            r"not finite in 1 bags \('a'\)",
        ),
        (
            {"bag": BAGS, "features": [[1.0], [1.0], [None], [1.0], [1.0]]},
            r"not finite in 1 bags \('b'\)",
        ),
        (
            {"bag": BAGS, "features": [[1.0], [1.0], [1e300], [1.0], [1.0]]},
            r"not finite in 1 bags \('b'\)",
        ),
        (
            {"bag": BAGS, "features": [[1.0], None, [1.0], [1.0], [1.0]]},
            "bag 'a' has an instance without features",
        ),
        ({"bag": BAGS, "features": [1.0] * 5}, "must be lists of numbers, not double"),
        ({"bag": BAGS, "features": [["x"]] * 5}, "must be numbers, not list"),
        ({"bag": BAGS, "features": [[]] * 5}, "width 0|must be"),
        (
            {"bag": BAGS, "label": [1, 0, 0, 0, 1], "features": ROWS.tolist()},
            r"bag 'b' has two values in column 'label' \('1' and '0'\)",
        ),
    ],
)
def test_bad_tables_are_refused(path, columns, message):
    with pytest.raises(InputError, match=message):
        read_bag_table(write(path, **columns), ("label",))


def test_missing_and_broken_files_are_refused(path):
    with pytest.raises(InputError, match="no such bag table"):
        read_bag_table(path, ())
    path.write_bytes(b"bag,label\n1,2\n")
    with pytest.raises(InputError, match="not a readable Parquet"):
        read_bag_table(path, ())


@pytest.mark.parametrize(
    ("name", "bags", "instances", "dim"),
    [("musk1", 92, 476, 166), ("musk2", 102, 6598, 166), ("fox", 200, 1320, 230)],
)
def test_public_benchmarks_have_their_published_sizes(
    test_data, name, bags, instances, dim
):
    found = read_bag_table(test_data / "mil" / f"{name}.parquet", ("label",))
    assert len(found.columns["label"]) == bags
    assert found.features.values.shape == (instances, dim)
    assert set(found.columns["label"]) == {"0", "1"}
