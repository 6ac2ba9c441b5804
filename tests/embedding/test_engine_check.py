import numpy as np
import pytest

from mshisto_ray.embedding.engine_check import Trial, choose, compare


def plain(wanted, given):
    """Worst cosine, largest difference, share of neighbours: tile by tile."""

    def cosine(a, b):
        return a @ b / np.linalg.norm(a) / np.linalg.norm(b)

    def nearest(values, i):
        others = [j for j in range(len(values)) if j != i]
        return max(others, key=lambda j: cosine(values[i], values[j]))

    num = range(len(wanted))
    return (
        min(cosine(wanted[i], given[i]) for i in num),
        max(abs(wanted[i] - given[i]).max() for i in num),
        np.mean([nearest(wanted, i) == nearest(given, i) for i in num]),
    )


@pytest.mark.parametrize("noise", [0.0, 0.01, 1.0])
def test_a_comparison_is_that_of_a_plain_loop(noise):
    rng = np.random.default_rng(0)
    wanted = rng.normal(size=(40, 6)).astype(np.float32)
    given = (wanted + noise * rng.normal(size=wanted.shape)).astype(np.float32)
    np.testing.assert_allclose(compare(wanted, given), plain(wanted, given), rtol=1e-5)


def test_tiles_that_are_equally_near_may_change_places():
    """Two copies of a tile are a third one's nearest: rounding says which."""
    wanted = np.array([[1, 0], [1, 0.2], [1, 0.2], [-1, 1]], np.float32)
    given = wanted.copy()
    given[2] += np.float32(1e-7)
    assert compare(wanted, given)[2] == 1


TRIALS = [
    Trial("torch", "float32", 9.0),
    Trial("onnxruntime", "float32", 3.0, 1.0, 1e-5, 1.0),
    Trial("openvino", "float32", 2.0, 1.0, 1e-5, 1.0),
    Trial("openvino", "bfloat16", 1.0, 0.96, 1.6, 0.9),
    Trial("torch", "bfloat16", 5.0, 0.99995, 0.1, 0.98),
    Trial("onnxruntime", "bfloat16", error="does not"),
]


@pytest.mark.parametrize(
    ("engine", "precision", "chosen"),
    [
        ("auto", "auto", 2),
        ("auto", "float32", 2),
        ("onnxruntime", "auto", 1),
        ("torch", "auto", 0),
        ("auto", "bfloat16", None),
    ],
)
def test_the_fastest_that_passes_is_chosen(engine, precision, chosen):
    wanted = None if chosen is None else TRIALS[chosen]
    assert choose(TRIALS, engine, precision) == wanted
