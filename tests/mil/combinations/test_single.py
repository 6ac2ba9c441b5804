from fixtures.combinations import make, tiles


def test_one_scale_is_itself():
    h, _ = tiles([1, 1])
    module = make("single", (5,))
    out, attention = module(h, [])
    assert out is h and attention == () and module.width == 5
