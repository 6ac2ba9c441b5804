"""Rankings: order, differences from a reference, Holm, letters."""

import numpy as np
import pytest
from fixtures.predictions import predictions

from mshisto_ray.config import InputError
from mshisto_ray.learning.comparison import by_fold, compare_all
from mshisto_ray.learning.ranking import check_same_patients, rank_classes, rank_risks
from mshisto_ray.learning.risks import RiskEstimates, Risks
from mshisto_ray.statistics.paired import corrected_resampled_t, holm, p_value


def risks(skill, seed, num=150):
    rng = np.random.default_rng(0)
    time, event = rng.exponential(10, num), rng.random(num) < 0.7
    own = np.random.default_rng(seed)
    risk = -skill * np.log(time) + own.normal(size=num)
    patient = np.array([f"p{i:03}" for i in range(num)])
    return Risks(patient, (np.arange(num) % 5).astype(str), time, event, risk)


@pytest.fixture(scope="module")
def models():
    skills = {"weak": 0.05, "strong": 1.5, "strong2": 1.4, "some": 0.6}
    return {n: RiskEstimates(risks(s, i)) for i, (n, s) in enumerate(skills.items())}


def test_risks_are_ranked_and_compared_with_the_best(models):
    found = rank_risks("g", models, "size", "c", "folds", None)
    order = [place.model for place in found.places]
    values = [place.values["c_folds"].value for place in found.places]
    assert values == sorted(values, reverse=True)
    assert order[-1] == "weak"
    assert found.reference == order[0]
    assert found.places[0].difference is None
    p = []
    for place in found.places[1:]:
        gap = models[place.model].difference(models[order[0]], "c", "folds")
        ends = gap.value, gap.low, gap.high
        assert place.difference is not None
        shown = place.difference.value, place.difference.low, place.difference.high
        assert shown == pytest.approx(ends)
        p.append(p_value(place.difference))
        folds = [models[m].by_fold("c") for m in (place.model, order[0])]
        gaps = np.array([folds[0][f] - folds[1][f] for f in folds[0]])
        assert place.p_folds == pytest.approx(corrected_resampled_t(gaps, 1 / 4))
    assert [q.p_holm for q in found.places[1:]] == pytest.approx(holm(np.array(p)))
    letters = {place.model: set(place.letters) for place in found.places}
    assert letters["strong"] & letters["strong2"]
    assert not letters["strong"] & letters["weak"]


def test_a_named_reference_and_pooled_values(models):
    found = rank_risks("g", models, "size", "uno_c", "pooled", "some")
    assert next(iter(found.places[0].values)) == "uno_c_pooled"
    by_name = {place.model: place for place in found.places}
    assert by_name["some"].difference is None
    weak = by_name["weak"].difference
    assert weak is not None and weak.value < 0
    with pytest.raises(InputError, match="reference: no model 'none' in g"):
        rank_risks("g", models, "size", "c", "folds", "none")


def test_classes_are_compared_as_by_compare_all():
    models = {f"m{s}": predictions(80, skill=s, seed=s) for s in (1, 2, 3)}
    found = rank_classes("all", models, "size", "auroc", "m2")
    others = [place for place in found.places if place.model != "m2"]
    compared = compare_all([models[p.model] for p in others], models["m2"])
    for place, known in zip(others, compared, strict=True):
        assert place.difference is not None
        gap, expected = place.difference, known.difference
        assert (gap.value, gap.low, gap.high) == pytest.approx(
            (expected.value, expected.low, expected.high)
        )
        assert place.p_holm == pytest.approx(known.p_holm)
        assert place.p_folds == pytest.approx(known.p_folds)
        folds = by_fold(models[place.model], "auroc").values()
        assert place.values["auroc_folds"].value == pytest.approx(np.mean([*folds]))


def test_one_model_has_nothing_to_compare(models):
    found = rank_risks("g", {"some": models["some"]}, "size", "c", "folds", None)
    assert [place.letters for place in found.places] == ["a"]


def test_other_patients_are_refused():
    one, two = risks(1, 0), risks(1, 1)
    check_same_patients("g", {"one": one, "two": two})
    patient = np.where(two.patient == "p003", "else", two.patient)
    other = Risks(patient, two.fold, two.time, two.event, two.risk)
    with pytest.raises(
        InputError, match=r"'one' and 'two' of g .* 2 differ .*else, p003"
    ):
        check_same_patients("g", {"one": one, "two": other})
