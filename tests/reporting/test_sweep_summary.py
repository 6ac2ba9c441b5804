"""A sweep's tables: what they hold and what they say can be told apart."""

import csv
from types import SimpleNamespace

import pytest
from fixtures.predictions import predictions

from mshisto_ray.learning.comparison import compare_all
from mshisto_ray.learning.result_files import measure
from mshisto_ray.learning.sweep.points import Point
from mshisto_ray.learning.sweep.pruning import Pruned
from mshisto_ray.learning.sweep.results import PointResult
from mshisto_ray.mil.experiment import ExperimentConfig
from mshisto_ray.reporting import sweep_tables
from mshisto_ray.reporting.sweep_plot import plot
from mshisto_ray.reporting.sweep_summary import summary, unfinished
from mshisto_ray.reporting.sweep_tables import comparison_table, told_apart

SKILLS = {"good": 2.0, "as_good": 1.9, "poor": 0.2}

FOLDS = ["test_auroc, mean over folds", "test_pr_auc, mean over folds"]


@pytest.fixture(scope="module")
def sweep():
    """Three models of the same 80 patients; the first was chosen."""
    parts = {
        name: predictions(num=80, repeats=2, skill=skill, seed=place)
        for place, (name, skill) in enumerate(SKILLS.items())
    }
    config = ExperimentConfig.model_construct(optimiser=SimpleNamespace(lr=None))
    ranked = [
        PointResult(
            f"d_{name}",
            Point({"pooling": name, "noise.sigma": 0.0}, config),
            measure(p, p),
            None,
        )
        for name, p in parts.items()
    ]
    first, *others = parts.values()
    found = compare_all(others, first)
    return ranked, {o.digest: c for o, c in zip(ranked[1:], found, strict=True)}


def tables(text):
    """Rows of each Markdown table."""
    found = [[]]
    for line in text.splitlines():
        if line.startswith("|"):
            found[-1].append([cell.strip() for cell in line.strip("|").split("|")])
        elif found[-1]:
            found.append([])
    return [rows for rows in found if rows]


def test_the_ranking_is_narrow_and_says_what_differs(sweep):
    ranked, compared = sweep
    ranking, others = tables(summary(ranked, [], "auroc", compared))
    assert ranking[0] == ["", "pooling", "noise.sigma", "val_auroc", "test_auroc",
                          "difference", "p", "config"]  # fmt: skip
    assert others[0] == ["", "test_pr_auc", "test_accuracy", "test_f1", *FOLDS,
                         "p over folds", "config"]  # fmt: skip
    assert {len(row) for row in ranking} == {8} and {len(row) for row in others} == {8}
    gap = compared["d_poor"].difference
    assert ranking[4][5] == f"{gap.value:+.3f} ({gap.low:+.3f} to {gap.high:+.3f})"
    assert gap.high < 0 and ranking[4][6] == "< .001"
    assert ranking[2][5:7] == ["", ""], "the chosen one is not compared with itself"


def test_groups_are_named(sweep):
    ranked, compared = sweep
    text = summary(ranked, [], "auroc", compared)
    assert (
        "Cannot be told apart from the chosen: 2 (pooling=as_good, noise.sigma=0.0).\n"
        in text
    )
    assert "Worse than the chosen: 3 (pooling=poor, noise.sigma=0.0).\n" in text
    assert "Better than" not in text
    assert "Holm's correction for 2 comparisons" in text
    assert [told_apart(c) for c in compared.values()] == [False, True]


def test_without_a_choice_nothing_is_compared(sweep):
    ranked, _ = sweep
    text = summary(ranked, [], None, {})
    ranking, others = tables(text)
    assert ranking[0] == ["", "pooling", "noise.sigma", "test_auroc", "config"]
    assert others[0][-4:] == ["test_f1", *FOLDS, "config"]
    assert "difference" not in text and "told apart" not in text


def test_the_csv_holds_every_number(sweep):
    ranked, compared = sweep
    rows = list(csv.DictReader(comparison_table(ranked, compared).splitlines()))
    assert [row["config"] for row in rows] == ["d_as_good", "d_poor"]
    for row in rows:
        found = compared[row["config"]]
        assert float(row["low"]) == found.difference.low
        assert float(row["p_folds"]) == found.p_folds
        assert float(row["value"]) - float(row["chosen"]) == pytest.approx(
            float(row["difference"])
        )


def test_the_picture_is_drawn(sweep, tmp_path):
    ranked, compared = sweep
    plot(tmp_path / "plot.png", ranked, True, compared)
    assert (tmp_path / "plot.png").read_bytes()[:4] == b"\x89PNG"


def test_pruned_failed_and_configs_that_were_not_run_are_told_from_each_other(sweep):
    ranked, compared = sweep
    point = Point({"seed": 3}, ranked[0].point.config)
    found = Pruned("auroc", (0.4, 0.6), 5)
    failed = PointResult("d_failed", point, None, "Traceback\nlast line")
    pruned = PointResult("d_pruned", point, None, None, found)
    idle = PointResult("d_idle", point, None, None)
    others = unfinished([failed], [pruned], [idle], 2)
    text = summary(ranked, [failed], "auroc", compared, others=others)
    assert "1 configs have no result:\n\n- seed=3 (d_failed): last line\n" in text
    assert (
        "- seed=3 (d_pruned): pruned after 2 of 5 models, validation AUROC 0.500\n"
        in text
    )
    assert "3 configs were not run, 2 of them not yet suggested; the same" in text
    assert "- seed=3 (d_idle)\n" in text and "no candidates" in text


def test_many_configs_of_a_kind_are_given_by_their_places():
    labels = [f"noise.sigma={place}" for place in range(1, 16)]
    given = sweep_tables._members([2, 3, 4, 6, 8, 9, 10, 11, 12, 13, 15], labels)
    assert given == "11 configs, at places 2 to 4, 6, 8 to 13, 15"
    assert sweep_tables._members([2], labels) == "2 (noise.sigma=2)"
