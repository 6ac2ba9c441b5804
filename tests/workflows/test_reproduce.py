"""Running published studies again: units, resuming, tables, bad data."""

import dataclasses
import itertools
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from mshisto_ray import components
from mshisto_ray import config as configs
from mshisto_ray.components import Part
from mshisto_ray.config import InputError
from mshisto_ray.learning.predictions import Predictions
from mshisto_ray.mil.model import POOLINGS
from mshisto_ray.workflows import reproduce
from mshisto_ray.workflows.reproduce import ReproduceConfig
from mshisto_ray.workflows.studies import (
    _image_bags,
    _study,
    ilse2018_colon,
    ilse2018_mnist_bags,
    ilse2018_musk,
    tan2023,
)
from mshisto_ray.workflows.studies._image_bags import ImageBags, ImageTraining
from mshisto_ray.workflows.studies._study import UnitResult
from mshisto_ray.workflows.studies.ilse2018_colon import _TOLD


def config(data, out, **study):
    raw = {"study": study, "data": str(data), "out": str(out)}
    return configs.validate(ReproduceConfig, raw)


@pytest.fixture
def musk(tmp_path):
    """A small table in the place of MUSK1."""
    rng = np.random.default_rng(0)
    bags = np.repeat(np.arange(24), 3)
    label = bags % 2
    features = rng.normal(size=(72, 4)) + 3 * label[:, None]
    table = {"bag": bags, "label": label, "features": features.tolist()}
    pq.write_table(pa.table(table), tmp_path / "musk1.parquet")
    return tmp_path


def test_a_stopped_study_goes_on_and_ends_with_the_table(
    musk, tmp_path, capsys, monkeypatch
):
    monkeypatch.setitem(ilse2018_musk._SETTINGS, "musk1", (5e-4, 0.005, 2))
    out = tmp_path / "out"
    keys = {"name": "ilse2018_musk", "datasets": ["musk1"], "others": False}
    settings = config(musk, out, **keys, repeats=1)
    first, *_ = reproduce._study(settings).units()
    reproduce.check(settings)

    class StopError(Exception):
        pass

    def stop():
        raise StopError

    class Two:
        def units(self):
            return [first, _study.Unit("second", {}, stop)]

        def table(self, done):
            return ", ".join(done)

    with pytest.raises(StopError):
        reproduce._run(Two(), out)
    assert (out / "table.md").read_text() == first.name
    capsys.readouterr()
    found = reproduce._standing(out, [first])[first.name]
    done = _study.UnitResult(found.predictions, {"x": 1.5, "y": float("nan")})

    class Rest(Two):
        def units(self):
            return [first, second]

    second = _study.Unit("second", {}, lambda: done)

    reproduce._run(Rest(), out)
    said = capsys.readouterr().out
    assert "1 of 2 units stand" in said and first.name + ", second" in said
    extras = reproduce._standing(out, [second])["second"].extras
    assert extras["x"] == 1.5 and np.isnan(extras["y"])


@pytest.fixture
def made(musk, tmp_path):
    """A finished unit of a study, and the study's keys."""
    out, keys = tmp_path / "out", {"name": "ilse2018_musk", "datasets": ["musk1"]}
    keys |= {"others": False, "repeats": 1}
    real, *_ = reproduce._study(config(musk, out, **keys)).units()
    result = UnitResult(few([0, 1], [0.2, 0.9]), {})
    first = dataclasses.replace(real, run=lambda: result)

    class One:
        def units(self):
            return [first]

        def table(self, done):
            return ""

    with reproduce.open_stage(out, "study", {"study": "ilse2018_musk"}, {}):
        reproduce._run(One(), out)
    return out / "units", keys, first.name


def test_units_made_elsewhere_are_gone_on_from(musk, made, tmp_path, capsys):
    units, keys, name = made
    text = (units / f"{name}.json").read_text()
    metadata = str(pq.read_schema(units / f"{name}.parquet").metadata)
    assert str(tmp_path) not in text + metadata

    elsewhere = tmp_path / "elsewhere"
    (elsewhere / "data").mkdir(parents=True)
    shutil.copy(musk / "musk1.parquet", elsewhere / "data")
    shutil.copytree(units, elsewhere / "out" / "units")
    (elsewhere / "out" / "units" / "fox-attention-0.json").write_text("{}")
    # More repeats are other units: these stay as they are.
    settings = config(elsewhere / "data", elsewhere / "out", **keys | {"repeats": 2})
    reproduce.check(settings)
    study = reproduce._study(settings)
    assert list(reproduce._standing(settings.out, study.units())) == [name]
    reproduce._tell_strangers(settings.out, study.units())
    said = capsys.readouterr().out
    assert "1 files in units are none of this study's units" in said
    assert "fox-attention-0" in said


def test_units_of_another_recipe_are_refused_with_what_differs(musk, made):
    units, keys, name = made
    settings = config(musk, units.parent, **keys)
    table = pq.read_table(musk / "musk1.parquet")
    pq.write_table(table.slice(3), musk / "musk1.parquet")
    with pytest.raises(InputError, match=rf"1 units .*{name}\.json \(data: '.* -> "):
        reproduce.check(settings)
    (units / f"{name}.json").write_text("{}")
    with pytest.raises(InputError, match=rf"{name}\.json \(says no recipe\)"):
        reproduce.check(settings)


def test_a_unit_without_its_predictions_is_told(musk, made):
    units, keys, name = made
    (units / f"{name}.parquet").unlink()
    with pytest.raises(InputError, match=rf"{name}\.parquet: no such predictions"):
        reproduce.check(config(musk, units.parent, **keys))


def test_out_with_anything_but_units_is_refused(musk, made, tmp_path):
    _, keys, _ = made
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").write_text("")
    with pytest.raises(InputError, match="an empty or a new folder"):
        reproduce.check(config(musk, tmp_path / "other", **keys))


def test_the_table_has_the_papers_rows_and_published_numbers(musk, tmp_path):
    keys = {"name": "ilse2018_musk", "datasets": ["musk1"], "others": False}
    study = reproduce._study(config(musk, tmp_path / "out", **keys, repeats=2))
    unit = next(u for u in study.units() if u.name == "musk1-attention-0")
    assert len(study.units()) == 12
    assert "| attention, published (unconfirmed) | .892 +- .040 |" in study.table({})
    predictions = few([0, 1], [0.2, 0.9])
    text = study.table({unit.name: UnitResult(predictions, {})})
    assert "| attention | 1.000 (1.000 to 1.000) [1] |" in text


def few(targets, positive):
    num = len(targets)
    names = np.array([f"b{i}" for i in range(num)], dtype=object)
    p = np.array(positive)
    return Predictions(
        ("a", "b"), names, np.full(num, None, dtype=object), names,
        np.array(targets), np.zeros(num, int), np.zeros(num, int),
        np.stack([1 - p, p], 1),
    )  # fmt: skip


def test_merging_numbers_repeats_where_bags_recur():
    one, two = UnitResult(few([0, 1], [0.1, 0.9]), {}), few([0, 1], [0.3, 0.7])
    merged = _study.merge([one, UnitResult(two, {})])
    assert merged.repeat.tolist() == [0, 0, 1, 1]


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"name": "ilse2018_musk"}, r"no musk1\.parquet"),
        ({"name": "ilse2018_musk", "datasets": ["musk3"]}, "no 'musk3'; have musk1"),
        ({"name": "ilse2018_mnist_bags"}, r"no mnist\.npz"),
        ({"name": "ilse2018_colon"}, r"no colon_bags27\.npz"),
        ({"name": "tan2023"}, r"no cohort\.csv"),
        ({"name": "ilse2019"}, "no 'ilse2019' in studies"),
        (
            {"name": "ilse2018_colon", "poolings": ["atention"]},
            "study.poolings: no 'atention'",
        ),
        (
            {"name": "ilse2018_mnist_bags", "poolings": ["atention"]},
            "study.poolings: no 'atention'",
        ),
        (
            {"name": "ilse2018_colon", "encoder": {"name": "tim"}},
            "study.encoder: no 'tim'",
        ),
        ({"name": "ilse2018_colon", "epochs": 0}, "epochs"),
        ({"name": "ilse2018_mnist_bags", "num_bags": [0]}, "num_bags"),
        ({"name": "ilse2018_mnist_bags", "mean_size": 500}, "mean_size"),
        ({"name": "tan2023", "scales": [2.0, 1.0]}, "study.scales: .* do not rise"),
    ],
)
def test_missing_data_is_told_at_once(tmp_path, keys, message):
    with pytest.raises(InputError, match=message):
        reproduce.check(config(tmp_path, tmp_path / "out", **keys))


def digits():
    """Pictures of one grey level a digit."""
    labels = np.arange(2000) % 10
    shape = (2000, 28, 28)
    return np.broadcast_to((labels * 25)[:, None, None], shape).astype(np.uint8), labels


def test_mnist_bags_are_balanced_and_hold_a_nine_where_positive():
    images, labels = digits()
    rng = np.random.default_rng(0)
    bags = ilse2018_mnist_bags.draw_bags(images, labels, 60, 10, rng)
    sizes = np.diff(bags.offsets)
    assert bags.targets.mean() == 0.5 and abs(sizes.mean() - 10) < 1.5
    for target, (a, b) in zip(
        bags.targets, itertools.pairwise(bags.offsets), strict=True
    ):
        nines = bags.images[a:b, 0, 0, 0] == 9 * 25
        assert (nines == bags.instance[a:b]).all() and nines.any() == bool(target)


@pytest.mark.parametrize(
    ("network", "shape"),
    [
        (ilse2018_mnist_bags.LeNet, (3, 1, 28, 28)),
        (ilse2018_colon.NucleusNet, (3, 3, 27, 27)),
    ],
)
def test_networks_take_the_papers_images(network, shape):
    model = network()
    assert model(torch.zeros(shape)).shape == (3, model.width)


class Mean(torch.nn.Sequential):
    width = 3

    def __init__(self):
        super().__init__(torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())


def test_image_bags_are_learned_and_attention_finds_the_instances():
    rng = np.random.default_rng(0)
    offsets = np.arange(0, 401, 5)
    targets = np.arange(80) % 2
    instance = np.zeros(400, bool)
    instance[offsets[:-1][targets == 1] + 2] = True
    images = rng.integers(100, 140, (400, 6, 6, 3)).astype(np.uint8)
    images[instance, :, :, 0] += 100
    bags = ImageBags(images, instance, offsets, targets)
    settings = ImageTraining(lr=0.05, weight_decay=0, epochs=12, flips=True)
    train, test = np.arange(60), np.arange(60, 80)
    model = _image_bags.fit(Mean, "attention", bags, train, settings, 0)
    found, area = _image_bags.predict(model, bags, test)
    assert (found.argmax(1) == targets[test]).all() and area == 1.0
    again = _image_bags.fit(Mean, "attention", bags, train, settings, 0)
    np.testing.assert_array_equal(_image_bags.predict(again, bags, test)[0], found)


def slow_nucleus_net():
    """The network as the paper draws it: ReLU before pooling, channels first."""
    made = ilse2018_colon.NucleusNet()
    c1, p1, r1, c2, p2, r2, *rest = made
    return torch.nn.Sequential(c1, r1, p1, c2, r2, p2, *rest)


def test_training_on_images_equals_the_plain_loop():
    """Layout, order of ReLU and pooling, fused steps: the same model to rounding."""
    rng = np.random.default_rng(0)
    offsets = np.array([0, 3, 4, 9, 12])
    images = rng.integers(0, 256, (12, 27, 27, 3)).astype(np.uint8)
    bags = ImageBags(images, rng.random(12) < 0.5, offsets, np.array([0, 1, 1, 0]))
    train, settings = np.array([0, 2, 1]), ImageTraining(1e-3, 5e-4, 3, flips=True)
    fast = _image_bags.fit(
        ilse2018_colon.NucleusNet, "attention", bags, train, settings, 5
    )

    pixels = np.concatenate([images[offsets[b] : offsets[b + 1]] for b in train]) / 255
    mean, std = pixels.mean((0, 1, 2)), pixels.std((0, 1, 2))
    order = np.random.default_rng(5)
    with torch.random.fork_rng([]):
        torch.manual_seed(5)
        network = slow_nucleus_net()
        pooling = components.build(POOLINGS, Part(name="attention"), 512, 2)
        parameters = [*network.parameters(), *pooling.parameters()]
        optimiser = torch.optim.Adam(parameters, 1e-3, weight_decay=5e-4, foreach=False)
        for bag in np.concatenate([order.permutation(train) for _ in range(3)]):
            turned = torch.from_numpy(images[offsets[bag] : offsets[bag + 1]]).clone()
            for i, turn in enumerate(torch.randint(8, (len(turned),)).tolist()):
                side = torch.rot90(turned[i].clone(), turn % 4)
                turned[i] = side.flip(0) if turn >= 4 else side
            h = (turned.numpy() / 255 - mean) / std
            h = torch.from_numpy(h.transpose(0, 3, 1, 2).copy()).float()
            out = pooling(network(h), torch.tensor([0, len(h)]))
            optimiser.zero_grad()
            out.loss(torch.tensor([bags.targets[bag]])).sum().backward()
            optimiser.step()
    found = [*fast.network.parameters(), *fast.pooling.parameters()]
    for one, two in zip(found, parameters, strict=True):
        torch.testing.assert_close(one.contiguous(), two, rtol=1e-4, atol=5e-5)


def test_flips_are_symmetries_of_each_image():
    image = torch.arange(16, dtype=torch.uint8).reshape(1, 4, 4, 1)
    torch.manual_seed(0)
    turned = _image_bags._flip(image.repeat(200, 1, 1, 1))
    wanted = {
        tuple(torch.rot90(side, k, (1, 2)).flatten().tolist())
        for side in (image, image.flip(1))
        for k in range(4)
    }
    assert {tuple(t.flatten().tolist()) for t in turned} == wanted


def test_tan_runs_every_row_whose_embeddings_are_there(make_embeddings, tmp_path):
    rng = np.random.default_rng(0)
    slides, rows = {}, ["path,label"]
    for i in range(8):
        sizes = {0.5: 12, 1.0: 6}
        slides[f"s{i}"] = {m: rng.normal(3 * (i % 2), 1, (n, 3))
                           for m, n in sizes.items()}  # fmt: skip
        rows.append(f"s{i}.svs,{'ab'[i % 2]}")
    data = make_embeddings(slides, "shared").parent
    (data / "cohort.csv").write_text("\n".join(rows) + "\n")
    study = tan2023.build(
        data, scales=(0.5, 1.0), repeats=1, folds=2, epochs=2, lr=0.05
    )
    units = study.units()
    assert [unit.name for unit in units] == ["ms-cl-1+0.5-0", "ms-cl-msa-1+0.5-0"]
    done = {unit.name: unit.run() for unit in units}
    text = study.table(done)
    assert "| MS + CL + MSA, published accuracy | .6415 |" in text
    assert "| conventional MS, accuracy | no embeddings |" in text
    for result in done.values():
        assert sorted(result.predictions.bag) == sorted(slides)


def test_tan_tests_on_the_annotated_area_too(make_embeddings, write_tiles, tmp_path):
    rng = np.random.default_rng(0)
    slides, marks, rows = {}, {}, ["path,label"]
    for i in range(8):
        slides[f"s{i}"] = {0.5: rng.normal(3 * (i % 2), 1, (12, 3))}
        drawn = {3, 4, 8} if i < 6 else set()
        marks[f"s{i}"] = {
            (0.5, r, 0): "tumour" if r in drawn else None for r in range(12)
        }
        rows.append(f"s{i}.svs,{'ab'[i % 2]}")
    data = make_embeddings(slides, "imagenet").parent
    (data / "cohort.csv").write_text("\n".join(rows) + "\n")
    keys = {"scales": (0.5,), "repeats": 1, "folds": 2, "epochs": 1, "lr": 0.05}
    with pytest.raises(InputError, match="no tiles in"):
        tan2023.build(data, annotation="tumour", **keys)
    write_tiles(data / "tiles", marks)
    with pytest.raises(InputError, match="annotated as 'gland'; have tumour"):
        tan2023.build(data, annotation="gland", **keys)
    study = tan2023.build(data, annotation="tumour", **keys)
    (unit,) = study.units()
    (whole,) = tan2023.build(data, **keys).units()
    assert unit.recipe.keys() - whole.recipe.keys() == {"area"}

    out = tmp_path / "out"
    with reproduce.open_stage(out, "study", {"study": "tan2023"}, {}):
        reproduce._run(study, out)
    found = reproduce._standing(out, [unit])[unit.name]
    assert sorted(found.predictions.bag) == sorted(slides)
    assert sorted(found.area.bag) == [f"s{i}" for i in range(6)]
    text = (out / "table.md").read_text()
    assert "| whole slides | Level 0 |" in text
    assert "| annotated area | Level 0 |" in text
    assert "| single scale, published accuracy | .7250 |" in text


def test_frozen_features_of_any_encoder_stand_beside_colours(tmp_path):
    rng = np.random.default_rng(0)
    offsets, label = np.arange(0, 61, 3), np.arange(20) % 2
    patches = rng.integers(0, 100, (60, 27, 27, 3), dtype=np.uint8)
    patches[np.repeat(label, 3) == 1] += 100
    np.savez(
        tmp_path / "colon_bags27.npz",
        patches=patches,
        inst_label=np.zeros(60, bool),
        offsets=offsets,
        label=label,
        name=np.array([f"image{i}" for i in range(20)]),
    )
    keys = {"model": "test_resnet", "weights": "random", "num_classes": 0}
    encoder = {"name": "timm", "size": 32, "fit": "resize", **keys}
    settings = config(
        tmp_path, tmp_path / "out", name="ilse2018_colon", encoder=encoder, epochs=1
    )
    study = reproduce._study(settings)
    units = {unit.name: unit for unit in study.units()}
    frozen = units["frozen-embedding_mean"]
    digests = {units[f"{kind}-attention"].recipe["encoder"] for kind in _TOLD}
    assert len(digests) == 2
    result = frozen.run()
    assert sorted(result.predictions.bag) == sorted(f"image{i}" for i in range(20))
    assert _study.measure([result])["auroc"].value > 0.9
    table = study.table({frozen.name: result})
    row = next(x for x in table.splitlines() if "embedding_mean, frozen" in x)
    assert _study.short(_study.measure([result])["auroc"].value) in row
    plain = config(tmp_path, tmp_path / "out", name="ilse2018_colon")
    names = [unit.name for unit in reproduce._study(plain).units()]
    assert "colour-attention" in names and "frozen-attention" not in names
