import numpy as np
import onnx as library
import onnxruntime
import pytest
from onnx import TensorProto, helper
from PIL import Image

from mshisto_ray.config import InputError
from mshisto_ray.encoders import check_takes, onnx, recipe
from mshisto_ray.encoders._recipe import RECIPES

PLAIN = {"mean": (0.0,) * 3, "std": (1.0,) * 3}


def write(path, shape, kind=TensorProto.FLOAT, outputs=("embedding",), external=False):
    """Mean colour plus 1, of images with three channels on the axis that is 3."""
    axes = [2, 3] if shape[1] == 3 else [1, 2]
    one = helper.make_tensor("one", TensorProto.FLOAT, [3], np.ones(3, "<f4").tobytes(),
                             raw=True)  # fmt: skip
    nodes = [
        helper.make_node("Cast", ["images"], ["cast"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["cast", "axes"], ["mean"], keepdims=0),
    ]
    nodes += [helper.make_node("Add", ["mean", "one"], [name]) for name in outputs]
    axes_tensor = helper.make_tensor("axes", TensorProto.INT64, [2], axes)
    info = helper.make_tensor_value_info
    given = [info("images", kind, shape)]
    made = [info(name, TensorProto.FLOAT, ["N", 3]) for name in outputs]
    graph = helper.make_graph(nodes, "means", given, made, [one, axes_tensor])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
    model.ir_version = 9
    data = {"save_as_external_data": True, "location": "data", "size_threshold": 0}
    library.save(model, path, **(data if external else {}))
    return str(path)


def written(folder):
    return {"path": write(folder / "means.onnx", ["N", 3, "H", "W"]), **PLAIN}


EXAMPLES = [written]


@pytest.mark.parametrize(
    ("shape", "kind", "given"),
    [
        (["N", 3, "H", "W"], TensorProto.FLOAT, PLAIN),
        (["N", "H", "W", 3], TensorProto.FLOAT, PLAIN),
        ([1, 64, 64, 3], TensorProto.FLOAT, PLAIN),
        (["N", 64, 64, 3], TensorProto.UINT8, {}),
        (["N", 3, 64, 64], TensorProto.FLOAT16, PLAIN),
    ],
)
def test_layout_and_type_are_read_from_the_graph(shape, kind, given, tiles, tmp_path):
    path = write(tmp_path / "means.onnx", shape, kind)
    encoder = onnx.build("cpu", "float32", path=path, **given)
    scale = 255 if given else 1
    wanted = tiles.mean(axis=(1, 2), dtype=float) / scale + 1
    tolerance = 1e-3 if kind == TensorProto.FLOAT16 else 1e-5
    np.testing.assert_allclose(encoder(tiles), wanted, rtol=tolerance)


@pytest.mark.parametrize("shape", [[4, 3, 64, 64], [4, 64, 64, 3]])
def test_a_graph_of_so_many_images_takes_any_number(shape, tiles, tmp_path):
    path = write(tmp_path / "means.onnx", shape)
    encoder = onnx.build("cpu", "float32", path=path, **PLAIN)
    for num in (1, 4, 5, 11):
        some = np.resize(tiles, (num, *tiles.shape[1:]))
        wanted = some.mean(axis=(1, 2), dtype=float) / 255 + 1
        np.testing.assert_allclose(encoder(some), wanted, rtol=1e-5)


def test_a_graph_that_says_any_size_and_takes_one(tmp_path):
    """Its first layer holds the side that its input leaves open."""
    weights = helper.make_tensor("w", TensorProto.FLOAT, [3 * 32 * 32, 2],
                                 np.zeros((3 * 32 * 32, 2), "<f4").tobytes(),
                                 raw=True)  # fmt: skip
    nodes = [
        helper.make_node("Flatten", ["images"], ["flat"]),
        helper.make_node("MatMul", ["flat", "w"], ["embedding"]),
    ]
    info = helper.make_tensor_value_info
    given = info("images", TensorProto.FLOAT, ["N", 3, "H", "W"])
    made = info("embedding", TensorProto.FLOAT, ["N", 2])
    graph = helper.make_graph(nodes, "flat", [given], [made], [weights])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
    model.ir_version = 9
    library.save(model, tmp_path / "flat.onnx")
    path = str(tmp_path / "flat.onnx")
    with pytest.raises(InputError, match=r"not take tiles of 224 px .* set size") as e:
        onnx.build("cpu", "float32", path=path, **PLAIN)
    assert len(str(e.value).splitlines()) == 1
    encoder = onnx.build("cpu", "float32", path=path, size=32, **PLAIN)
    assert encoder(np.zeros((3, 32, 32, 3), np.uint8)).shape == (3, 2)
    with pytest.raises(InputError, match="does not take tiles of 64 px"):
        check_takes(encoder, 64)


def test_tiles_of_another_size_are_refused_or_fitted(tiles, tmp_path):
    path = write(tmp_path / "means.onnx", ["N", 3, 32, 32])
    encoder = onnx.build("cpu", "float32", path=path, **PLAIN)
    with pytest.raises(InputError, match=r"takes tiles of 32 px, got 64; set fit"):
        check_takes(encoder, 64)
    fitted = onnx.build("cpu", "float32", path=path, **PLAIN, fit="crop")
    wanted = tiles[:, 16:48, 16:48].mean(axis=(1, 2)) / 255 + 1
    np.testing.assert_allclose(fitted(tiles), wanted, rtol=1e-5)


def test_a_digest_is_of_the_graph_and_of_its_data_files(tmp_path):
    def digest(folder, change=False, **given):
        folder.mkdir(exist_ok=True)
        path = write(folder / "g.onnx", ["N", 3, "H", "W"], external=True)
        if change:
            (folder / "data").write_bytes(np.full(3, 2, "<f4").tobytes())
        return onnx.build("cpu", "float32", path=path, **(PLAIN | given)).digest

    first = digest(tmp_path / "a")
    assert digest(tmp_path / "b") == first
    others = [
        digest(tmp_path / "c", change=True),
        digest(tmp_path / "d", std=(2.0,) * 3),
    ]
    assert len({first, *others}) == 3


@pytest.mark.parametrize(
    ("shape", "kind", "outputs", "given", "said"),
    [
        (["N", 3, 8, 8], TensorProto.FLOAT, ["a"], {}, "takes float32: give mean and"),
        (["N", 3, 8, 8], TensorProto.UINT8, ["a"], PLAIN, "takes uint8: .* leave them"),
        (["N", 3, 8, 8], TensorProto.FLOAT, ["a", "b"], PLAIN, "has a, b: name one"),
        (["N", 3, 8, 8], TensorProto.FLOAT, ["a"], PLAIN | {"output": "c"}, "no out"),
        (["N", 3, 8, 8], TensorProto.INT32, ["a"], PLAIN, "does not take RGB images"),
        (["N", 3, 8, 6], TensorProto.FLOAT, ["a"], PLAIN, "tiles are square"),
        (["N", 3, "H", "W"], TensorProto.FLOAT, ["a"], PLAIN | {"fit": "crop"}, "size"),
    ],
)  # fmt: skip
def test_unusable_graphs(shape, kind, outputs, given, said, tmp_path):
    path = write(tmp_path / "g.onnx", shape, kind, outputs)
    with pytest.raises(InputError, match=said) as caught:
        onnx.build("cpu", "float32", path=path, **given)
    assert len(str(caught.value).splitlines()) == 1


def test_files_that_are_no_graphs(tmp_path):
    (tmp_path / "lfs.onnx").write_text("version https://git-lfs.github.com/spec/v1")
    for name, said in (("lfs.onnx", "is no ONNX file"), ("gone.onnx", "no such ONNX")):
        with pytest.raises(InputError, match=said):
            onnx.build("cpu", "float32", path=str(tmp_path / name), **PLAIN)


def test_another_network_under_a_recipe_is_told(tmp_path):
    path = write(tmp_path / "means.onnx", ["N", 3, 224, 224])
    with pytest.raises(InputError, match="says 512: is it MobileNet of half") as caught:
        recipe.build(
            "cpu",
            "float32",
            path=str(RECIPES / "gleason_mobilenet.yaml"),
            weights=path,
        )
    assert path in str(caught.value) and "\n" not in str(caught.value)


def test_a_graph_that_gives_a_map_is_refused(tmp_path):
    info = helper.make_tensor_value_info
    image, found = (
        info(name, TensorProto.FLOAT, ["N", 3, "H", "W"]) for name in ("images", "map")
    )
    nodes = [helper.make_node("Identity", ["images"], ["map"])]
    graph = helper.make_graph(nodes, "map", [image], [found])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
    model.ir_version = 9
    library.save(model, tmp_path / "map.onnx")
    with pytest.raises(InputError, match="average it over a tile's places"):
        onnx.build("cpu", "float32", path=str(tmp_path / "map.onnx"), **PLAIN)


def test_the_gleason_network_by_its_recipe(test_data):
    """Equal to a plain run of its graph; its head reads classes from it."""
    weights = test_data / "weights"
    path = str(RECIPES / "gleason_mobilenet.yaml")
    encoder = recipe.build("cpu", "float32", path=path, weights=str(weights))
    files = sorted((test_data / "tiles_lung").rglob("*.jpg"))[::24]
    images = np.stack([np.asarray(Image.open(file)) for file in files])
    found = encoder(images)
    assert found.shape == (len(files), 512)
    small = np.stack(
        [np.asarray(Image.fromarray(i).resize((224, 224), Image.Resampling.BILINEAR))
         for i in images]
    )  # fmt: skip
    session = onnxruntime.InferenceSession(weights / "gleason_mobilenet_half.onnx")
    pixels = small.transpose(0, 3, 1, 2).astype(np.float32) / 127.5 - 1
    (plain,) = session.run(None, {"pixels": pixels})
    # Resizing differs from the image library's by one level in some pixels.
    apart = np.abs(found - plain) / np.abs(plain).max()
    assert apart.max() < 0.05 and apart.mean() < 0.002
    as_is = encoder(small)
    np.testing.assert_allclose(as_is, plain, atol=1e-4 * np.abs(plain).max())
    head = np.load(weights / "gleason_head.npz")
    scores = as_is @ head["kernel"] + head["bias"]
    odds = np.exp(scores - scores.max(1, keepdims=True))
    shares = odds / odds.sum(1, keepdims=True)
    assert shares.shape == (len(files), 4) and len(set(shares.argmax(1))) > 1
