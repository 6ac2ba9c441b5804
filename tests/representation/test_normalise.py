import numpy as np
import pytest
import torch

from mshisto_ray.representation import normalise


def stacked(sets):
    return normalise.Moments(
        *(np.stack(p) for p in zip(*map(normalise.moments, sets), strict=True))
    )


def test_fit_is_mean_and_std_of_all_rows():
    rng = np.random.default_rng(0)
    sets = [rng.normal(i, 1 + i, (n, 3)) for i, n in enumerate((7, 1, 0, 40))]
    fitted = normalise.fit(stacked(sets))
    rows = np.concatenate(sets)
    np.testing.assert_allclose(fitted.mean, rows.mean(0), rtol=1e-6)
    np.testing.assert_allclose(fitted.std, rows.std(0), rtol=1e-6)


def test_standardised_rows_have_mean_0_and_std_1_for_any_scale_and_offset():
    rng = np.random.default_rng(1)
    rows = rng.normal(size=(500, 4)) * [1e-4, 1, 1e3, 2] + [0, 5, 1e4, -3]
    out = normalise.fit(stacked([rows]))(torch.from_numpy(rows.astype(np.float32)))
    assert out.dtype == torch.float32
    np.testing.assert_allclose(out.mean(0), np.zeros(4), atol=1e-4)
    np.testing.assert_allclose(out.std(0, correction=0), np.ones(4), rtol=1e-3)


def test_half_precision_rows_do_not_overflow():
    rows = np.full((1000, 1), 60000, np.float16)
    rows[::2] = 50000
    fitted = normalise.fit(stacked([rows]))
    assert fitted.mean.item() == 54992  # float16 holds 49984 and 60000
    assert torch.isfinite(fitted(torch.from_numpy(rows))).all()


@pytest.mark.parametrize("constant", [0.0, 0.1, 12345.678])
def test_constant_feature_becomes_zero(constant):
    rows = np.full((999, 2), constant, np.float32)
    rows[:, 1] = np.arange(999)
    out = normalise.fit(stacked([rows[:500], rows[500:]]))(torch.from_numpy(rows))
    np.testing.assert_allclose(out[:, 0], np.zeros(999), atol=1e-3)


def test_chunks_do_not_change_moments(monkeypatch):
    rows = np.random.default_rng(2).normal(3, 2, (100, 5)).astype(np.float16)
    whole = normalise.moments(rows)
    monkeypatch.setattr(normalise, "_CHUNK_BYTES", 8 * 5 * 7)
    parts = normalise.moments(rows)
    assert whole[0] == parts[0] == 100
    np.testing.assert_allclose(whole[1], parts[1], rtol=1e-12)
    np.testing.assert_allclose(whole[2], parts[2], rtol=1e-12)
