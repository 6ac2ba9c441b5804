import numpy as np
import torch

from mshisto_ray.jobs.benchmarks import augment, retrieve


def test_retrieval_is_exact_and_measured_beside_scikit_learn(tmp_path):
    # Three slides: a query without its own may find two of them.
    found = retrieve.build(rows=12_000, dim=8, queries=32, repeats=2)(tmp_path)
    assert found["retrieve.exact"].value == 1
    assert found["retrieve.queries_per_s"].baseline > 0
    assert found["retrieve.peak_memory"].value > 0


def test_the_check_of_retrieval_sees_a_wrong_neighbour():
    rng = np.random.default_rng(0)
    values = rng.standard_normal((60, 4)).astype(np.float32)
    slide, asking = np.arange(60) // 20, np.arange(16)
    apart = ((values[asking, None].astype(float) - values) ** 2).sum(2)
    apart[slide[asking, None] == slide] = np.inf
    right = apart.argsort(axis=1, kind="stable")[:, :5]
    assert retrieve._share_exact(values, slide, asking, right) == 1
    wrong = right.copy()
    wrong[3, 4] = next(r for r in range(20, 60) if r not in right[3])
    assert retrieve._share_exact(values, slide, asking, wrong) == 15 / 16


def test_augmentation_is_measured_beside_torchvision(tmp_path):
    threads = torch.get_num_threads()
    found = augment.build(tile_px=32, repeats=2)(tmp_path)
    assert torch.get_num_threads() == threads
    for way in ("tensors", "pil"):
        assert found[f"augment.ratio.{way}"].value > 0
        assert found[f"augment.images_per_s.against_{way}"].baseline > 0
