"""Files of a head's decision."""

import json

import numpy as np
import pytest
from fixtures.predictions import predictions

from mshisto_ray import config as configs
from mshisto_ray.config import InputError
from mshisto_ray.decision.config import DecisionConfig
from mshisto_ray.decision.files import Decision, read_decision, write_decision
from mshisto_ray.decision.rules import fit_rules


def test_what_is_written_is_read_and_replaced(tmp_path):
    assert read_decision(tmp_path) is None
    config = configs.validate(DecisionConfig, {"calibration": "platt", "coverage": 0.9})
    rules = fit_rules(predictions(), config)
    reference = np.arange(6, dtype=np.float32).reshape(3, 2)
    write_decision(tmp_path, Decision(config, rules, 60, reference, "bags"))
    found = read_decision(tmp_path)
    assert (found.config, found.fitted_on, found.bags) == (config, 60, "bags")
    assert found.rules.calibration == rules.calibration
    np.testing.assert_array_equal(found.reference, reference)
    write_decision(tmp_path, Decision(config, rules, 60))
    assert read_decision(tmp_path).reference is None


def test_a_later_version_is_refused(tmp_path):
    write_decision(
        tmp_path, Decision(DecisionConfig(), fit_rules(None, DecisionConfig()), 0)
    )
    path = tmp_path / "decision.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"version": 2}))
    with pytest.raises(InputError, match="version 2, this package reads 1"):
        read_decision(tmp_path)
