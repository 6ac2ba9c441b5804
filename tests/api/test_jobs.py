"""Jobs run from Python: the same work, errors in place of exits."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mshisto_ray import InputError, JobFailedError, entry, run


@pytest.fixture
def table(tmp_path):
    """A bag table of two classes, told apart by a feature."""
    rows = [
        {"bag": f"b{i}", "label": "ab"[i % 2], "features": [float(i % 2), float(j)]}
        for i in range(20)
        for j in range(3)
    ]
    path = tmp_path / "bags.parquet"
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


def test_a_job_writes_what_its_command_writes(table, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    keys = {"epochs": 1, "hidden": [2], "split.folds": 2, "pooling": "attention"}
    done = run("train", bags=table.name, out="python", **keys)
    words = [f"{key}={value}" for key, value in keys.items()]
    with pytest.raises(SystemExit) as end:
        entry.main("train", [f"bags={table.name}", "out=typed", *words])
    assert not end.value.code
    assert done.out == tmp_path / "python" and done.config.epochs == 1
    assert "result/predictions.parquet" in done.tables
    typed = pq.read_table(tmp_path / "typed" / "result" / "predictions.parquet")
    assert done.read("result/predictions.parquet").equals(typed.to_pandas())
    with pytest.raises(InputError, match=r"no table 'x'; have .*folds\.parquet"):
        done.read("x")


def test_a_file_of_the_package_or_of_your_own_comes_first(table, tmp_path):
    mine = tmp_path / "mine.yaml"
    mine.write_text(f"bags: {table}\nepochs: 1\nhidden: [2]\nsplit: {{folds: 2}}\n")
    done = run("train", mine, out=tmp_path / "out", **{"optimiser.lr": 0.1})
    assert done.config.optimiser.lr == 0.1 and done.config.split.folds == 2
    with pytest.raises(InputError, match=r"no such cohort file"):
        run("tile", "tile.yaml", cohort="gone.csv", out=tmp_path / "tiles")


@pytest.mark.parametrize("name", ["tiel", "_units", "tile.run", "benchmarks.mil", ""])
def test_no_job_of_that_name(name):
    with pytest.raises(InputError, match="no job"):
        run(name)


def test_wrong_keys_and_input_raise(tmp_path):
    with pytest.raises(InputError, match=r"tilepx: unknown key.*did you mean tile_px"):
        run("tile", cohort="c.csv", out="o", tilepx=3)
    with pytest.raises(InputError, match=r"gone\.csv"):
        run("tile", cohort=tmp_path / "gone.csv", out=tmp_path / "o")


def test_a_job_that_ends_badly_raises(monkeypatch):
    from mshisto_ray.jobs import doctor

    monkeypatch.setattr(doctor, "run", _run_badly(doctor.DoctorConfig))
    with pytest.raises(JobFailedError, match="doctor ended with exit code 1"):
        run("doctor")


def _run_badly(kind):
    def job(config) -> int:
        return 1

    job.__annotations__ = {"config": kind, "return": int}
    return job
