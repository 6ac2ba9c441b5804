import numpy as np
import pytest

from mshisto_ray.mil.input.bags import Bags
from mshisto_ray.mil.ragged import segments
from mshisto_ray.store.features import ArrayFeatures


def planted_bags(
    num=40,
    classes=2,
    dim=6,
    per_patient=1,
    seed=0,
    empty=(),
    largest=6,
    folds=None,
    everywhere=False,
):
    """Bags of 1 to ``largest`` instances; one instance of class c > 0 is far along c.

    ``everywhere``: all of its instances are; ``empty``: bags without instances.
    """
    rng = np.random.default_rng(seed)
    targets = (np.arange(num) // per_patient) % classes
    sizes = rng.integers(1, largest + 1, num)
    sizes[list(empty)] = 0
    offsets = np.concatenate([[0], sizes.cumsum()])
    values = rng.normal(size=(offsets[-1], dim)).astype(np.float32)
    for start, size, target in zip(offsets[:-1], sizes, targets, strict=True):
        if size and target:
            key = start + rng.integers(size)
            rows = slice(start, start + size) if everywhere else key
            values[rows, target] += 6
    names = tuple(f"b{i}" for i in range(num))
    return Bags(
        features=ArrayFeatures(names, values * 3 + 5, offsets),
        names=names,
        members=tuple((i,) for i in range(num)),
        slide_ids=(None,) * num,
        patient_ids=tuple(f"p{i // per_patient}" for i in range(num)),
        targets=targets,
        classes=tuple("abcde"[:classes]),
        folds=folds,
        sizes=sizes,
        digest="0",
        encoder=None,
        scale=None,
        notes=(),
        places=[
            np.stack(np.divmod(np.arange(size), 3), 1) for size in sizes
        ].__getitem__,
    )


@pytest.fixture
def planted():
    return planted_bags


@pytest.fixture(params=["form of CPUs", "padded"])
def every_form(request, monkeypatch):
    """Both forms of reducing bags, whatever the device and the sizes."""
    if request.param == "padded":
        monkeypatch.setattr(segments, "_PADS", {"cpu"})
        monkeypatch.setattr(segments, "_MOST_PADDING", 1_000_000)
        monkeypatch.setattr(segments, "_LONG", {"cpu": 1_000_000})
