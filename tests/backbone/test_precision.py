from mshisto_ray.backbone.precision import resolve_precision


def test_precision_is_what_was_asked():
    assert resolve_precision("float32", "cpu") == "float32"
    assert resolve_precision("auto", "cpu") in ("float32", "bfloat16")
