from fixtures.spaces import rows

from mshisto_ray.representation.reductions import none


def test_nothing_is_changed():
    values, reduction = rows(5), none.build(6, 2)
    assert reduction.width == 6 and reduction.fit(values, None) == {}
    assert reduction.apply({}, values) is values
