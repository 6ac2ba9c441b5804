"""Compact letter displays."""

import numpy as np
import pytest

from mshisto_ray.statistics.letters import letters


def of_pairs(num, *pairs):
    different = np.zeros((num, num), bool)
    for one, two in pairs:
        different[one, two] = different[two, one] = True
    return different


def test_known_displays():
    assert letters(of_pairs(3)) == ["a", "a", "a"]
    assert letters(of_pairs(3, (0, 2))) == ["a", "ab", "b"]
    assert letters(of_pairs(3, (0, 1), (0, 2), (1, 2))) == ["a", "b", "c"]
    assert letters(of_pairs(1)) == ["a"]


@pytest.mark.parametrize("seed", range(20))
def test_two_share_a_letter_where_they_do_not_differ(seed):
    rng = np.random.default_rng(seed)
    num = 8
    pairs = [(i, j) for i in range(num) for j in range(i) if rng.random() < 0.4]
    different = of_pairs(num, *pairs)
    found = letters(different)
    assert found[0].startswith("a")
    for i in range(num):
        for j in range(num):
            if i != j:
                assert bool(set(found[i]) & set(found[j])) == (not different[i, j])
