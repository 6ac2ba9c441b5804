"""What a head decides, applied by the job predict."""

import shutil

import numpy as np
import pyarrow.parquet as pq
from fixtures.predicting import NUM, run

from mshisto_ray import config as configs
from mshisto_ray.decision.config import DecisionConfig
from mshisto_ray.decision.files import Decision, write_decision
from mshisto_ray.decision.rules import DecisionRules
from mshisto_ray.mil.head import load_head
from mshisto_ray.statistics.calibration import Temperature
from mshisto_ray.statistics.conformal import ConformalSets


def test_what_the_head_decides_is_applied_and_examined(
    prediction_study, plainly, tmp_path
):
    head = tmp_path / "head"
    shutil.copytree(prediction_study / "gated_attention", head)
    config = configs.validate(
        DecisionConfig, {"calibration": "temperature", "coverage": 0.9}
    )
    rules = DecisionRules(Temperature(0.5), 0.45, ConformalSets(np.array([0.0, 0.45])))
    reference = np.random.default_rng(0).normal(size=(30, load_head(head).dims[0]))
    write_decision(head, Decision(config, rules, 5, reference.astype("f4")))
    with plainly():
        run(
            prediction_study,
            tmp_path / "out",
            head=str(head),
            tiles=None,
            subgroups=["label"],
        )
    table = pq.read_table(tmp_path / "out" / "predictions.parquet").to_pydict()
    p = np.stack([table["prob_even"], table["prob_odd"]], 1)
    calibrated = np.stack([table["calibrated_even"], table["calibrated_odd"]], 1)
    new = [i for i, bag in enumerate(table["bag"]) if int(bag[1:]) >= NUM]
    np.testing.assert_allclose(calibrated[:NUM], rules.calibrated(p[:NUM]), rtol=1e-6)
    called = np.array(["even", "odd"])[(calibrated[:, 1] >= 0.45).astype(int)]
    assert table["decision"] == called.tolist()
    expected = [["even", "odd"] if q >= 0.45 else ["even"] for q in p[:, 1]]
    assert table["set"] == expected
    assert table["abstains"] == [len(members) == 2 for members in expected]
    known = [i for i, found in enumerate(table["drift_p"]) if found is not None]
    assert known == new
    assert all(0 < table["drift_p"][i] <= 1 for i in new)
    text = (tmp_path / "out" / "summary.md").read_text()
    for line in ("those of the head, fitted on 5 validation patients", "Drift: the 2",
                 "8 of the bags are of patients of training", "Sets: 90% were promised",
                 "Brier score, after temperature"):  # fmt: skip
        assert line in text, line
    assert (tmp_path / "out" / "decisions.png").stat().st_size > 5000
    page = (tmp_path / "out" / "report.html").read_text()
    assert "Decision curve" in page
    assert "decision_covered" in (tmp_path / "out" / "subgroups.csv").read_text()
