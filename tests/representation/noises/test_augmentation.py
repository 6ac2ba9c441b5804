import numpy as np
import pytest
import torch
from fixtures.spaces import generator, rows, space

from mshisto_ray.config import InputError
from mshisto_ray.representation.differences import write_differences
from mshisto_ray.representation.noises import augmentation
from mshisto_ray.representation.space import Space


def written(folder, dim=6, slides=("a", "b"), seed=5):
    values = np.random.default_rng(seed).normal(size=(400, dim)) * np.arange(1, dim + 1)
    each = np.repeat(np.array(slides, object), 400 // len(slides))
    path = folder / f"differences{dim}.safetensors"
    write_differences(path, values, each, {"encoder": {"name": "ours"}})
    return path, torch.from_numpy(values).float()


EXAMPLES = [lambda folder: {"path": str(written(folder)[0]), "sigma": 0.5}]


def test_noise_has_the_covariance_of_the_differences(tmp_path):
    path, values = written(tmp_path)
    noise = augmentation.build(space(), path=path, sigma=0.5)
    added = noise(torch.zeros(200000, 6), generator(0))
    wanted = values.T @ values / len(values)
    wanted *= 0.25 * 6 / wanted.trace()
    torch.testing.assert_close(added.T.cov(), wanted, rtol=0, atol=0.01)


def test_differences_are_standardised_as_embeddings_are(tmp_path):
    path, values = written(tmp_path)
    spread = torch.tensor([1.0, 2, 3, 4, 5, 6])
    whole = rows()
    scaled = Space(6, (6,), lambda: whole, lambda raw: raw / spread)
    noise = augmentation.build(scaled, path=path, sigma=1)
    added = noise(torch.zeros(100000, 6), generator(0))
    own = (values / spread).square().mean(0)
    torch.testing.assert_close(added.var(0), own * 6 / own.sum(), rtol=0.05, atol=0)


def test_tiles_of_held_out_slides_are_not_used(tmp_path):
    path, values = written(tmp_path)
    whole = rows()
    fold = Space(6, (6,), lambda: whole, lambda raw: raw, frozenset({"b"}))
    added = augmentation.build(fold, path=path, sigma=1)(
        torch.zeros(9, 6), generator(0)
    )
    alone = tmp_path / "alone.safetensors"
    write_differences(alone, values[:200].numpy(), np.array(["a"] * 200), {})
    again = augmentation.build(space(), path=alone, sigma=1)
    assert torch.equal(added, again(torch.zeros(9, 6), generator(0)))


def test_views_are_disturbed_independently(tmp_path):
    paths = written(tmp_path, 4)[0], written(tmp_path, 2)[0]
    noise = augmentation.build(space(views=(4, 2)), path=paths, sigma=1)
    found = noise(torch.zeros(100000, 6), generator(0)).T.cov()
    torch.testing.assert_close(found[:4, 4:], torch.zeros(4, 2), rtol=0, atol=0.03)


def test_bad_files_are_refused(tmp_path):
    path, _ = written(tmp_path)
    with pytest.raises(InputError, match="files of 6 features, the embeddings have 8"):
        augmentation.check((8,), False, path=path, sigma=1)
    (tmp_path / "no").write_text("x")
    with pytest.raises(InputError, match="no file of differences"):
        augmentation.check((6,), False, path=tmp_path / "no", sigma=1)
    whole = rows()
    fold = Space(6, (6,), lambda: whole, lambda raw: raw, frozenset({"a", "b"}))
    with pytest.raises(InputError, match="fewer than two differences"):
        augmentation.build(fold, path=path, sigma=1)
