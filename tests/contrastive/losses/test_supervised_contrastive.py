import pytest
from fixtures.losses import loss_of, softmax_costs

EXAMPLES = [
    {},
    {"denominator": "negatives"},
    {"reduction": "sum", "temperature": 0.5},
]


def oracle(z, positive, negative, temperature=0.1, denominator="all", reduction="mean"):
    over_all = denominator == "all"
    costs = softmax_costs(z, positive, negative, temperature, over_all)
    anchors = [sum(each) / len(each) for each in costs if each]
    return sum(anchors) if reduction == "sum" else sum(anchors) / len(anchors)


def test_values_are_checked():
    with pytest.raises(ValueError, match=r"supervised_contrastive\.reduction"):
        loss_of(("supervised_contrastive", {"reduction": "median"}))
