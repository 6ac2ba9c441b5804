"""What a head of tiles decides: fitted by a sweep on validation, applied by predict."""

import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest

from mshisto_ray import config as configs
from mshisto_ray.config import InputError
from mshisto_ray.decision.files import read_decision
from mshisto_ray.jobs import predict, sweep
from mshisto_ray.jobs._decisions import decided, keep_decision
from mshisto_ray.jobs._sweep_config import AnySweepConfig
from mshisto_ray.reporting.decisions import decision_table
from mshisto_ray.statistics.calibration import fit_platt
from mshisto_ray.statistics.thresholds import for_sensitivity

SLIDES = [f"s{i}" for i in range(9)]
CLASSES = ["tumour"] * 18 + ["normal"] * 18
DECISION = {
    "calibration": "platt",
    "threshold": {"policy": "sensitivity", "value": 0.9},
}


def embed(table):
    row, col = (table[name].to_numpy().astype(float) for name in ("row", "col"))
    number = float(table["slide_id"][0].as_py()[1:])
    noise = np.sin(7 * row + 13 * col + number)
    return np.stack([np.where(row < 3, 1.0, -1.0) + 2 * noise, noise**2], axis=1)


@pytest.fixture(scope="module")
def study(make_stages, tmp_path_factory):
    folder = tmp_path_factory.mktemp("decisions")
    stages = make_stages(folder)
    tiles = stages.tiles(dict.fromkeys([*SLIDES, "n9"], CLASSES))
    known = folder / "known.csv"
    known.write_text("path\n" + "".join(f"{s}.tiff\n" for s in SLIDES))
    return tiles, stages.embeddings(embed, "one"), known, folder


def settings(study, out, **more):
    tiles, embeddings, known, _ = study
    raw = {
        "task": "tile", "tiles": str(tiles), "embeddings": str(embeddings),
        "cohort": str(known), "out": str(out), "target": {"column": "annotation"},
        "axes": {"hidden": [[], [4]]}, "split": {"folds": 3, "validation": 0.3},
        "epochs": 4, "batch_size": 16, "lr": 0.05, "decision": DECISION,
        "runtime": {"cache": {"max_gib": 0}},
    }  # fmt: skip
    return configs.load(AnySweepConfig, None, raw | more)


@pytest.fixture(scope="module")
def trained(study):
    """Config of the sweep, result of its first point, and the head that decides."""
    folder = study[3]
    given = settings(study, folder / "sweep")
    (point, *_) = sweep.sweep.expand(given, given.axes)
    result = folder / "result"
    point.config.train(point.config.load(), result, lambda done, total: None)
    head = folder / "head"
    shutil.copytree(result / "head", head)
    keep_decision(head, given.decides, point.config, result, folder / "none")
    return given, point.config, result, head


def test_what_the_head_keeps_is_fitted_on_validation(trained):
    _, config, result, head = trained
    validation = config.read_validation(result)
    found = read_decision(head)
    fitted = fit_platt(validation.probabilities, validation.target)
    calibrated = fitted(validation.probabilities)
    np.testing.assert_array_equal(
        found.rules.calibrated(validation.probabilities), calibrated
    )
    wanted = for_sensitivity(calibrated[:, 1], validation.target == 1, 0.9)
    assert found.rules.threshold == wanted
    assert found.fitted_on == len(set(validation.patient_id)) and not found.config.drift
    assert found.reference is None


def test_out_of_fold_each_fold_is_decided_on_by_its_own_validation(trained):
    given, config, result, _ = trained
    found = decided(given, result, given.decides)
    test, validation = config.read_test(result), config.read_validation(result)
    rows, own = test.fold == 1, validation.fold == 1
    fitted = fit_platt(validation.probabilities[own], validation.target[own])
    calibrated = fitted(test.probabilities[rows])
    np.testing.assert_array_equal(found.calibrated[rows], calibrated)
    truth = test.target == 1
    share = found.shares["sensitivity"]
    assert share.value == (found.decided[truth] == 1).mean()
    assert share.low < share.value < share.high
    shown = dict(decision_table(found, given.decides)[1:])
    assert "sensitivity at the threshold (for a sensitivity of 0.9)" in shown


def test_predict_applies_it_to_every_tile(plain, study, trained, tmp_path):
    _, embeddings, _, _ = study
    head, cohort = trained[3], tmp_path / "new.csv"
    cohort.write_text("path\n" + "".join(f"{s}.tiff\n" for s in ["n9", "s0"]))
    for name, own in (("with", head), ("without", trained[2] / "head")):
        raw = {"embeddings": embeddings, "cohort": cohort, "head": own}
        raw["out"] = tmp_path / name
        predict.run(configs.validate(predict.PredictConfig, raw))
    rules = read_decision(head).rules
    for slide_id in ("n9", "s0"):
        shard, plainer = (
            pq.read_table(
                tmp_path / name / "shards" / f"{slide_id}.parquet"
            ).to_pandas()
            for name in ("with", "without")
        )
        np.testing.assert_array_equal(shard.instance_tumour, plainer.instance_tumour)
        assert set(shard.columns) - set(plainer.columns) == {
            "calibrated_normal", "calibrated_tumour", "decision",
        }  # fmt: skip
        values = shard[["calibrated_normal", "calibrated_tumour"]].to_numpy()
        if slide_id == "s0":  # of one model: the one that did not see it
            given = shard[["instance_normal", "instance_tumour"]].to_numpy()
            np.testing.assert_allclose(values, rules.calibrated(given), atol=1e-6)
        wanted = np.where(values[:, 1] >= rules.threshold, "tumour", "normal")
        assert shard.decision.tolist() == wanted.tolist()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"decision": {"coverage": 0.9}}, "decision.coverage: unknown key"),
        (
            {"split": {"folds": 3, "validation": 0}, "patience": None,
             "axes": {}, "select": None},
            "fitted on validation patients, and split.validation is 0",
        ),
        ({"axes": {"decision.calibration": ["platt"]}}, "has to be the same"),
    ],
)  # fmt: skip
def test_what_cannot_be_decided_is_refused_before_work(study, tmp_path, more, message):
    with pytest.raises(InputError, match=message):
        sweep.check(settings(study, tmp_path / "out", **more))
