"""The table of predictions."""

import numpy as np
import pandas as pd
import pytest
from fixtures.predictions import predictions

from mshisto_ray.config import InputError
from mshisto_ray.learning.predictions import read_predictions, write_predictions


def test_predictions_table_keeps_everything(tmp_path):
    p = predictions(repeats=2, classes=("b", "a", "c"))
    p.slide_id[0] = "s0"
    write_predictions(tmp_path / "predictions.parquet", p)
    back = read_predictions(tmp_path / "predictions.parquet")
    assert back.classes == ("b", "a", "c")
    for name in ("bag", "slide_id", "patient_id", "target", "fold", "repeat"):
        assert getattr(back, name).tolist() == getattr(p, name).tolist(), name
    np.testing.assert_array_equal(back.probabilities, p.probabilities)


def test_another_table_is_refused(tmp_path):
    with pytest.raises(InputError, match="no such"):
        read_predictions(tmp_path / "none.parquet")
    pd.DataFrame({"bag": ["a"]}).to_parquet(tmp_path / "x.parquet")
    with pytest.raises(InputError, match="lacks fold, patient_id"):
        read_predictions(tmp_path / "x.parquet")
