"""Which slides are shown, and which predictions are listed."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fixtures.predictions import predictions
from PIL import Image

from mshisto_ray.config import InputError
from mshisto_ray.learning.predictions import write_predictions
from mshisto_ray.prediction.table import PredictedBags, read_predicted
from mshisto_ray.reporting.page.blocks import Figures, Table
from mshisto_ray.reporting.page.cases import Looks, look_blocks, wrong_blocks

POSITIVE = [0.99, 0.9, 0.8, 0.95, 0.6, 0.05, 0.1, 0.3, 0.45, 0.97]
LABELS = ["yes", "yes", "yes", "no", "no", "no", "no", "yes", "yes", None]


def bags():
    two = np.stack([1 - np.array(POSITIVE), POSITIVE], 1)
    names = [f"b{i}" for i in range(len(LABELS))]
    return PredictedBags(("no", "yes"), names, names, LABELS, two)


def looks(folder, most, lacking=()):
    for i in set(range(len(LABELS))) - set(lacking):
        Image.new("RGB", (9, 9)).save(folder / f"b{i}.instance_yes.png")
    return Looks(folder, {f"b{i}": [f"b{i}"] for i in range(10)}, ("no", "yes"), most)


def shown(blocks):
    return [b.heading.split(",")[0] for b in blocks if isinstance(b, Figures)]


def test_the_most_confident_wrong_ones_come_first():
    (table,) = [b for b in wrong_blocks(bags()) if isinstance(b, Table)]
    assert [row[0] for row in table.rows] == ["b3", "b7", "b4", "b8"]
    assert table.rows[0][2:] == ["no", "yes", "0.950", "0.050"]


def test_right_ones_of_each_class_in_turn_then_wrong_ones(tmp_path):
    found = shown(look_blocks(bags(), looks(tmp_path, 5)))
    assert found == ["Right: b0", "Right: b5", "Right: b1", "Wrong: b3", "Wrong: b7"]


def test_slides_without_pictures_or_labels(tmp_path):
    found = shown(look_blocks(bags(), looks(tmp_path, 20, lacking=(0, 3))))
    assert found[0] == "Right: b5" and "Wrong: b3" not in found
    assert found[-1] == "Without a label: b9"
    (tmp_path / "none").mkdir()
    empty = Looks(tmp_path / "none", {}, ("no", "yes"))
    (block,) = look_blocks(bags(), empty)
    assert block.text.startswith("No heat maps")


def test_repeats_of_a_bag_are_averaged(tmp_path):
    given = predictions(num=6, repeats=3)
    write_predictions(tmp_path / "p.parquet", given)
    found = read_predicted(tmp_path / "p.parquet")
    assert list(found.names) == [f"b{i}" for i in range(6)]
    mean = given.probabilities.reshape(3, 6, 2).mean(0)
    assert found.probabilities == pytest.approx(mean)
    classes = [given.classes[code] for code in given.target[:6]]
    assert list(found.targets) == classes
    again = found.labelled()
    assert again is not None and (again.target == given.target[:6]).all()
    with pytest.raises(InputError, match="no such predictions"):
        read_predicted(tmp_path / "absent.parquet")


def test_without_labels_there_is_nothing_to_measure(tmp_path):
    columns = {
        "bag": ["a"], "patient_id": ["p"], "target": pa.array([None], pa.string()),
        "prob_no": [0.4], "prob_yes": [0.6],
    }  # fmt: skip
    pq.write_table(pa.table(columns), tmp_path / "p.parquet")
    found = read_predicted(tmp_path / "p.parquet")
    assert found.labelled() is None and found.predicted == ["yes"]
    (block,) = wrong_blocks(found)
    assert "no" in block.text.lower()
