"""Configs trained in a pack are written one by one, as they would be by themselves."""

import json

import pyarrow.parquet as pq
import pytest
from fixtures.sweeps import write_bags

from mshisto_ray import config
from mshisto_ray.distributed import trial_worker
from mshisto_ray.jobs._sweep_config import SweepConfig
from mshisto_ray.learning.sweep.packs import pack_size
from mshisto_ray.learning.sweep.point_source import PointSource
from mshisto_ray.mil import experiment
from mshisto_ray.mil.experiment import ExperimentConfig
from mshisto_ray.mil.experiment_pack import run_pack

FILES = ("predictions.parquet", "validation.parquet", "history.json")
OTHERS = [
    {},
    {"seed": 1},
    {"noise": {"name": "gaussian", "sigma": 0.3}},
    {"optimiser.lr": 1e30},
]


@pytest.fixture(scope="module")
def pack(tmp_path_factory):
    table = write_bags(tmp_path_factory.mktemp("pack") / "bags.parquet")
    raw = {
        "bags": str(table), "split": {"folds": 3}, "epochs": 4, "hidden": [8],
        "optimiser": {"name": "adam"}, "early_stopping": {"patience": 1},
    }  # fmt: skip
    found = []
    for keys in OTHERS:
        whole = raw
        for key, value in keys.items():
            whole = config.set_key(whole, key, value)
        found.append(config.validate(ExperimentConfig, whole))
    return found


def read(folder):
    tables = [pq.read_table(folder / name) for name in FILES[:2]]
    history = json.loads((folder / FILES[2]).read_text())
    metrics = json.loads((folder / "metrics.json").read_text())
    kept = {k: v for k, v in metrics.items() if "seconds" not in k}
    return *tables, history, kept


def test_a_pack_writes_what_each_config_writes_by_itself(pack, tmp_path):
    bags, splits = experiment.load(pack[0])
    assert len({c.pack_key(bags, splits) for c in pack}) == 1
    given = [(c, tmp_path / "packed" / str(k)) for k, c in enumerate(pack)]
    ended = dict(run_pack(given, bags, splits))
    assert "diverged" in str(ended.pop(3)) and set(ended.values()) == {None}
    assert not (tmp_path / "packed" / "3").exists()
    for place in range(3):
        alone = tmp_path / "alone" / str(place)
        experiment.run(pack[place], bags, splits, alone)
        for one, other in zip(read(given[place][1]), read(alone), strict=True):
            assert one == other


def test_a_killed_pack_resumes_to_the_undisturbed_result(pack, tmp_path, monkeypatch):
    """A worker that ends after the first config; the next one trains the others."""
    reports = []

    def report(found):
        reports.append(found)
        if len(reports) == 1 and "first" in str(out):
            raise SystemExit

    monkeypatch.setattr(trial_worker.tune, "report", report)
    trial = {
        "digests": ["a", "b", "c"],
        "points": [point.model_dump_json() for point in pack[:3]],
    }
    out = tmp_path / "undisturbed"
    (out / "configs").mkdir(parents=True)
    trial_worker.train_points(trial, ExperimentConfig, out, 1)
    assert reports[-1] == {"models": 9, "ended": dict.fromkeys("abc")}
    reports.clear()
    out = tmp_path / "first"
    (out / "configs").mkdir(parents=True)
    with pytest.raises(SystemExit):
        trial_worker.train_points(trial, ExperimentConfig, out, 1)
    kept = {p.name: (p / "metrics.json").stat() for p in (out / "configs").iterdir()}
    assert len(kept) == 1
    trial_worker.train_points(trial, ExperimentConfig, out, 1)
    assert reports[-1]["ended"] == dict.fromkeys("abc")
    for name, stat in kept.items():
        found = (out / "configs" / name / "metrics.json").stat()
        assert found.st_mtime_ns == stat.st_mtime_ns, "done again"
    for name in "abc":
        folders = [
            tmp_path / run / "configs" / name for run in ("undisturbed", "first")
        ]
        one, other = map(read, folders)
        assert all(a == b for a, b in zip(one, other, strict=True))


def test_points_of_one_shape_are_handed_out_together_in_their_order(pack, tmp_path):
    axes = {"pooling": ["attention", "embedding_mean"], "noise.sigma": [0, 0.1, 0.2]}

    raw = {k: v for k, v in pack[0].model_dump(mode="json").items() if k != "runtime"}
    whole = config.validate(SweepConfig, raw | {"axes": axes, "out": str(tmp_path)})
    source = PointSource(whole, whole, tmp_path)
    labels = [point.label for point in source.points.values()]

    def take(most):
        found = source.take(lambda digest: False, lambda digest, point: None, most)  # pyright: ignore
        return [point.label for point in found.values()]

    assert take(2) == labels[:2]
    assert take(9) == labels[2:3]  # the other pooling has another shape
    assert take(1) == labels[3:4]
    assert take(9) == labels[4:]
    assert take(9) == []


def test_a_pack_leaves_no_worker_idle_and_stays_in_the_caches():
    assert pack_size(10, 200, 2) == 4
    assert pack_size(10, 4, 2) == 2
    assert pack_size(10, 1, 8) == pack_size(100, 50, 2) == 1
