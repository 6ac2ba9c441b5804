from fixtures.poolings import assert_a_wrong_bag_has_a_gradient, sigm


def oracle(pool, bag):
    w, b = pool.classifier.weight[0], pool.classifier.bias[0]
    return max(sigm(w @ h + b) for h in bag), None


def test_a_bag_that_is_badly_wrong_still_has_a_gradient():
    assert_a_wrong_bag_has_a_gradient("instance_max")
