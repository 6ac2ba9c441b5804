"""A sweep that trains again: its learning curve, permuted labels."""

import pytest
from fixtures.pages import read_page
from fixtures.sweeps import QUICK, parent_and_children, settings, write_bags

from mshisto_ray import config
from mshisto_ray.config import InputError
from mshisto_ray.jobs import sweep, train

KEYS = {"learning_curve": [0.3, 16], "permutations": 3}
SMALL = {"axes": {"pooling": [{"name": "embedding_mean"}, {"name": "embedding_max"}]}}


@pytest.mark.slow  # three sweeps; what they train is in tests/mil
@pytest.mark.ray
def test_curve_and_permutations_are_trained_once_and_shown(local_ray, tmp_path, capsys):
    table = write_bags(tmp_path / "bags.parquet")
    given = settings(table, tmp_path / "out", **SMALL, **KEYS)
    sweep.check(given)
    assert sweep.run(given) == 0
    assert "8/8 trained again" in capsys.readouterr().out
    text = (given.out / "summary.md").read_text()
    assert "## Learning curve" in text and "## Permuted labels" in text
    assert "(the least possible: 0.250)" in text
    page = read_page(given.out / "report.html")
    assert "curve" in page.sections
    parent, children = parent_and_children(given)
    assert len(children) == 2
    assert parent.data.metrics["p_permuted"] >= 0.25
    lost = next(given.out.glob("configs/*/permuted/auroc-1.json"))
    before = lost.read_text()
    lost.unlink()
    assert sweep.run(given) == 0
    assert "1/1 trained again" in capsys.readouterr().out
    assert lost.read_text() == before
    assert (given.out / "summary.md").read_text() == text


@pytest.mark.parametrize(
    ("keys", "line"),
    [
        ({"learning_curve": [0.01, 0.5]}, "learning_curve: size 0.01 leaves"),
        ({"learning_curve": [12, 500]}, "learns from 24 patients"),
        ({"learning_curve": [0.5]}, "give two or more different sizes"),
        ({"learning_curve": [0, 0.5, 1.5]}, r"a number of them from 2; got 0, 1\.5$"),
        ({"learning_curve": [0.5, 0.7], "select": None}, "select=null chooses none"),
        ({"permutations": 9, "select": None}, "permutations: 9 choose a config"),
        ({"permutations": -1}, "permutations"),
    ],
)
def test_bad_keys_are_refused_before_work(tmp_path, keys, line):
    table = write_bags(tmp_path / "bags.parquet")
    with pytest.raises(InputError, match=line):
        sweep.check(settings(table, tmp_path / "out", **SMALL, **keys))
    assert not (tmp_path / "out").exists()


def test_training_has_a_curve_too(tmp_path, capsys):
    table = write_bags(tmp_path / "bags.parquet")
    quick = {key: value for key, value in QUICK.items() if key != "runtime"}
    raw = {"bags": str(table), "out": str(tmp_path / "out"), **quick}
    given = config.validate(train.TrainJobConfig, {**raw, "learning_curve": [0.3, 0.6]})
    train.check(given)
    train.run(given)
    text = (given.out / "summary.md").read_text()
    assert "\n\n## Learning curve\n" in text
    assert (given.out / "learning_curve.png").is_file()
    capsys.readouterr()
    train.run(given)
    assert "learning curve, size" not in capsys.readouterr().out
