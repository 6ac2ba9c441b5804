import pyarrow as pa

from mshisto_ray.store.row_counts import count_rows, count_slide


def table(mpp, own):
    return pa.table({"mpp": pa.array([mpp] * len(own), pa.float64()), "own": own})


def test_own_rows_are_counted_by_scale():
    empty = table(2.0, []).set_column(1, "own", pa.array([], pa.bool_()))
    found = count_rows([table(0.5, [True, False, True]), table(1.0, [True]), empty])
    assert found == {"rows": {0.5: 3, 1.0: 1}, "own": {0.5: 2, 1.0: 1}}


def test_chunks_of_a_slide_are_summed():
    # JSON made the keys texts.
    first = {"rows": {"0.5": 3, "1.0": 1}, "own": {"0.5": 2, "1.0": 0}}
    second = {"rows": {"0.5": 4}, "own": {"0.5": 1}}
    assert count_slide([first, second]) == {
        "rows_per_scale": [(0.5, 7), (1.0, 1)],
        "own_per_scale": [(0.5, 3), (1.0, 0)],
    }
    assert count_slide([]) == {"rows_per_scale": [], "own_per_scale": []}


def test_shards_of_earlier_versions_leave_own_rows_open():
    old, new = {"rows": {"0.5": 3}}, {"rows": {"0.5": 4}, "own": {"0.5": 1}}
    assert count_slide([old, new])["own_per_scale"] is None
    assert count_slide([old, new])["rows_per_scale"] == [(0.5, 7)]
