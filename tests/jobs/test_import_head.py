"""A head of CLAM, imported and applied to embeddings."""

import numpy as np
import pytest
import torch
from fixtures.clam import clam, forward
from safetensors.torch import save_file

from mshisto_ray import config as configs
from mshisto_ray.api.models import predict, read_bags
from mshisto_ray.config import InputError
from mshisto_ray.jobs import import_head


@pytest.fixture
def study(tmp_path, make_embeddings):
    """Embeddings of width 12, a cohort of them, and a checkpoint of CLAM."""
    rng = np.random.default_rng(0)
    values = {f"s{i}": rng.normal(size=(5 + i, 12)).astype("f2") for i in range(3)}
    make_embeddings({name: {0.5: v, 1.0: v[:2]} for name, v in values.items()})
    rows = [f"{name}.svs,{name}" for name in values]
    (tmp_path / "cohort.csv").write_text("\n".join(["path,slide_id", *rows]) + "\n")
    save_file(clam(2, False, True), tmp_path / "clam.safetensors")
    return tmp_path, values


def config(folder, **keys):
    raw = {
        "weights": folder / "clam.safetensors",
        "embeddings": folder / "embeddings",
        "classes": ["normal", "tumour"],
        "out": folder / "head",
    }
    return configs.validate(import_head.ImportHeadConfig, raw | keys)


def test_it_predicts_as_clam_does(study, capsys):
    folder, values = study
    import_head.check(config(folder))
    import_head.run(config(folder))
    assert "CLAM (clam), attention one, 12 inputs, classes normal, tumour" in (
        capsys.readouterr().out
    )
    bags = read_bags(
        target=None,
        embeddings=str(folder / "embeddings"),
        cohort=str(folder / "cohort.csv"),
        scale=0.5,
    )
    found = predict(folder / "head", bags)
    for row in found.table.itertuples():
        x = torch.from_numpy(values[row.bag]).float()
        wanted, weights = forward(clam(2, False, True), x)
        assert row.prob_tumour == pytest.approx(wanted[1].item(), abs=1e-5)
        assert row.predicted == ("tumour" if wanted[1] > 0.5 else "normal")
        assert found.attention is not None
        torch.testing.assert_close(
            torch.from_numpy(found.attention[row.bag]).float(), weights[:, 0]
        )


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"classes": ["a"]}, "two or more different names"),
        ({"classes": ["a", "a"]}, "two or more different names"),
        ({"scale": 4.0}, r"scale: 4\.0 is not in"),
        ({"classes": ["a", "b", "c"]}, "has 2 classes, 3 given"),
    ],
)
def test_what_does_not_fit_is_refused(study, keys, message):
    with pytest.raises(InputError, match=message):
        import_head.check(config(study[0], **keys))


def test_embeddings_of_another_width_and_other_folders_are_refused(study):
    folder, _ = study
    save_file(clam(2, False, False, width=5), folder / "clam.safetensors")
    with pytest.raises(InputError, match=r"of width 5, .* has width 12"):
        import_head.check(config(folder))
    (folder / "notes").mkdir()
    with pytest.raises(InputError, match="is there and is not a head"):
        import_head.check(config(folder, out=folder / "notes"))
