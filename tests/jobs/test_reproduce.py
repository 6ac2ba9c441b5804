"""Running published studies again: units, resuming, tables, bad data."""

import dataclasses
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from mshisto_ray import config as configs
from mshisto_ray.config import InputError
from mshisto_ray.jobs import reproduce
from mshisto_ray.learning.predictions import Predictions
from mshisto_ray.studies import (
    UnitResult,
    _study,
    ilse2018_musk,
)


@pytest.fixture(name="config")
def _config(make_study_config):
    return make_study_config


@pytest.fixture
def musk(tmp_path):
    """A small table in the place of MUSK1."""
    rng = np.random.default_rng(0)
    bags = np.repeat(np.arange(24), 3)
    label = bags % 2
    features = rng.normal(size=(72, 4)) + 3 * label[:, None]
    table = {"bag": bags, "label": label, "features": features.tolist()}
    pq.write_table(pa.table(table), tmp_path / "musk1.parquet")
    return tmp_path


def test_a_stopped_study_resumes_and_ends_with_the_table(
    musk, tmp_path, capsys, monkeypatch, config
):
    monkeypatch.setattr(ilse2018_musk, "_EPOCHS", 2)
    out = tmp_path / "out"
    keys = {"name": "ilse2018_musk", "datasets": ["musk1"], "others": False}
    settings = config(musk, out, **keys, repeats=1)
    first, *_ = reproduce._study(settings).units()
    reproduce.check(settings)

    class StopError(Exception):
        pass

    def stop():
        raise StopError

    class Two:
        def units(self):
            return [first, _study.StudyUnit("second", {}, stop)]

        def table(self, done):
            return ", ".join(done)

    with pytest.raises(StopError):
        reproduce._run(Two(), out)
    assert (out / "table.md").read_text() == first.name
    capsys.readouterr()
    found = reproduce._finished_units(out, [first])[first.name]
    done = _study.UnitResult(found.predictions, {"x": 1.5, "y": float("nan")})

    class Rest(Two):
        def units(self):
            return [first, second]

    second = _study.StudyUnit("second", {}, lambda: done)

    reproduce._run(Rest(), out)
    said = capsys.readouterr().out
    assert "1 of 2 units already done" in said and first.name + ", second" in said
    extras = reproduce._finished_units(out, [second])["second"].extras
    assert extras["x"] == 1.5 and np.isnan(extras["y"])


@pytest.fixture
def made(musk, tmp_path, config):
    """A finished unit of a study, and the study's keys."""
    out, keys = tmp_path / "out", {"name": "ilse2018_musk", "datasets": ["musk1"]}
    keys |= {"others": False, "repeats": 1}
    real, *_ = reproduce._study(config(musk, out, **keys)).units()
    result = UnitResult(few([0, 1], [0.2, 0.9]), {})
    first = dataclasses.replace(real, run=lambda: result)

    class One:
        def units(self):
            return [first]

        def table(self, done):
            return ""

    with reproduce.open_stage(out, "study", {"study": "ilse2018_musk"}, {}):
        reproduce._run(One(), out)
    return out / "units", keys, first.name


def test_units_made_elsewhere_are_kept(musk, made, tmp_path, capsys, config):
    units, keys, name = made
    text = (units / f"{name}.json").read_text()
    metadata = str(pq.read_schema(units / f"{name}.parquet").metadata)
    assert str(tmp_path) not in text + metadata

    elsewhere = tmp_path / "elsewhere"
    (elsewhere / "data").mkdir(parents=True)
    shutil.copy(musk / "musk1.parquet", elsewhere / "data")
    shutil.copytree(units, elsewhere / "out" / "units")
    (elsewhere / "out" / "units" / "fox-attention-0.json").write_text("{}")
    # A published study is copied whole, with its table.
    (elsewhere / "out" / "table.md").write_text("")
    # More repeats are other units: these stay as they are.
    settings = config(elsewhere / "data", elsewhere / "out", **keys | {"repeats": 2})
    reproduce.check(settings)
    study = reproduce._study(settings)
    assert list(reproduce._finished_units(settings.out, study.units())) == [name]
    reproduce._warn_unknown_units(settings.out, study.units())
    said = capsys.readouterr().out
    assert "1 files in units are not units of this study" in said
    assert "fox-attention-0" in said


def test_units_of_another_recipe_are_refused_with_what_differs(musk, made, config):
    units, keys, name = made
    settings = config(musk, units.parent, **keys)
    table = pq.read_table(musk / "musk1.parquet")
    pq.write_table(table.slice(3), musk / "musk1.parquet")
    with pytest.raises(InputError, match=rf"1 units .*{name}\.json \(data: '.* -> "):
        reproduce.check(settings)
    (units / f"{name}.json").write_text("{}")
    with pytest.raises(InputError, match=rf"{name}\.json \(records no recipe\)"):
        reproduce.check(settings)


def test_a_unit_without_its_predictions_is_refused(musk, made, config):
    units, keys, name = made
    (units / f"{name}.parquet").unlink()
    with pytest.raises(InputError, match=rf"{name}\.parquet: no such predictions"):
        reproduce.check(config(musk, units.parent, **keys))


def test_out_with_anything_but_units_is_refused(musk, made, tmp_path, config):
    _, keys, _ = made
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").write_text("")
    with pytest.raises(InputError, match="an empty or a new folder"):
        reproduce.check(config(musk, tmp_path / "other", **keys))


def test_the_table_has_the_papers_rows_and_published_numbers(musk, tmp_path, config):
    keys = {"name": "ilse2018_musk", "datasets": ["musk1"], "others": False}
    study = reproduce._study(config(musk, tmp_path / "out", **keys, repeats=2))
    unit = next(u for u in study.units() if u.name == "musk1-attention-0")
    assert len(study.units()) == 2 * 7  # six poolings and the floor
    assert "| attention, published (unconfirmed) | .892 +- .040 |" in study.table({})
    predictions = few([0, 1], [0.2, 0.9])
    extras = {"trained_share": 0.9, "undecided_share": 0.25}
    text = study.table({unit.name: UnitResult(predictions, extras)})
    # Wilson's interval of two of two.
    assert "| attention | 1.000 (.342 to 1.000) [1] |" in text
    assert "| models trained, least | 90% |" in text
    assert "| bags undecided, most | 25% |" in text


def few(targets, positive):
    num = len(targets)
    names = np.array([f"b{i}" for i in range(num)], dtype=object)
    p = np.array(positive)
    return Predictions(
        ("a", "b"), names, np.full(num, None, dtype=object), names,
        np.array(targets), np.zeros(num, int), np.zeros(num, int),
        np.stack([1 - p, p], 1),
    )  # fmt: skip


def test_merging_numbers_repeats_where_bags_recur():
    one, two = UnitResult(few([0, 1], [0.1, 0.9]), {}), few([0, 1], [0.3, 0.7])
    merged = _study.merge([one, UnitResult(two, {})])
    assert merged.repeat.tolist() == [0, 0, 1, 1]


def test_machines_share_units_by_a_key(tmp_path, capsys, config, musk):
    """Each makes its share; joined, nothing is left."""

    def made(name):
        pictures = {"bag": Image.new("RGB", (4, 4))}
        given = few([0, 1], [0.1, 0.9]), {"x": 1.0}
        result = UnitResult(*given, pictures=pictures)
        return _study.StudyUnit(name, {"name": name}, lambda: result, 2.0)

    class Five:
        def units(self):
            return [made(name) for name in "abcde"]

        def table(self, done):
            return " ".join(sorted(done))

    for number, names in ((1, "ac e"), (2, "bd")):
        out = tmp_path / f"out{number}"
        with reproduce.open_stage(out, "study", {"study": "five"}, {}, ["units"]):
            reproduce._run(Five(), out, f"{number}/2")
        assert (out / "pictures" / f"{names[0]}-bag.png").is_file()
        assert (out / "table.md").read_text().replace(" ", "") == names.replace(" ", "")
    text = capsys.readouterr().out
    assert "3 units to make, about 6 hours of one CPU core, the longest 2" in text
    shutil.copytree(tmp_path / "out2" / "units", tmp_path / "out1" / "units",
                    dirs_exist_ok=True)  # fmt: skip
    assert len(reproduce._finished_units(tmp_path / "out1", Five().units())) == 5
    for wrong in ("0/2", "3/2", "half"):
        with pytest.raises(InputError, match="share"):
            raw = {"study": {"name": "ilse2018_musk"}, "data": musk, "out": tmp_path}
            configs.validate(reproduce.ReproduceConfig, raw | {"share": wrong})


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"name": "ilse2018_musk"}, r"no musk1\.parquet"),
        ({"name": "ilse2018_musk", "datasets": ["musk3"]}, "no 'musk3'; have musk1"),
        ({"name": "ilse2018_mnist_bags"}, r"no mnist\.npz"),
        ({"name": "ilse2018_colon"}, r"no colon_bags27\.npz"),
        ({"name": "tan2023"}, r"no cohort\.csv"),
        ({"name": "ilse2019"}, "no 'ilse2019' in studies"),
        (
            {"name": "ilse2018_colon", "poolings": ["atention"]},
            "study.poolings: no 'atention'",
        ),
        (
            {"name": "ilse2018_mnist_bags", "poolings": ["atention"]},
            "study.poolings: no 'atention'",
        ),
        (
            {"name": "ilse2018_colon", "encoder": {"name": "tim"}},
            "study.encoder: no 'tim'",
        ),
        ({"name": "ilse2018_colon", "epochs": 0}, "epochs"),
        ({"name": "ilse2018_mnist_bags", "num_bags": [0]}, "num_bags"),
        ({"name": "ilse2018_mnist_bags", "mean_sizes": [1]}, "mean_sizes"),
        ({"name": "tan2023", "scales": [2.0, 1.0]}, "study.scales: .* rising order"),
    ],
)
def test_missing_data_is_refused_at_once(tmp_path, keys, message, config):
    with pytest.raises(InputError, match=message):
        reproduce.check(config(tmp_path, tmp_path / "out", **keys))


def test_folds_are_scored_each_by_themselves():
    """Folds whose scores lie elsewhere: perfect apart, not pooled."""
    probabilities = np.array([0.1, 0.2, 0.6, 0.9, 0.3, 0.4])
    names = np.array(list("abcdef"), dtype=object)
    made = Predictions(
        ("n", "p"), names, np.full(6, None, dtype=object), names,
        np.array([0, 1, 0, 1, 1, 0]), np.array([0, 0, 1, 1, 2, 2]),
        np.zeros(6, int), np.stack([1 - probabilities, probabilities], 1),
    )  # fmt: skip
    areas = _study.aurocs_by("fold", [UnitResult(made, {})])
    assert areas == [1.0, 1.0, 0.0]
    assert _study.mean(areas) == ".667 +- .333" and _study.mean([0.5]) == ""
