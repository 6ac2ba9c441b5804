import json
from types import SimpleNamespace

import pytest

from mshisto_ray.distributed.trial_progress import SweepProgress
from mshisto_ray.learning.targets import TargetConfig


@pytest.mark.parametrize(
    ("metrics", "said"),
    [
        (
            {"intervals": "score", "val_auroc_mean": 0.8965, "test_auroc_mean": 0.7123},
            "validation AUROC 0.896",
        ),
        ({"intervals": "score", "test_auroc_mean": 0.7123}, "done"),
        (None, "no result"),
    ],
)
def test_a_line_of_a_config_shows_validation_never_test(
    metrics, said, tmp_path, capsys
):
    folder = tmp_path / "configs" / "abc"
    folder.mkdir(parents=True)
    if metrics:
        (folder / "metrics.json").write_text(json.dumps(metrics))
    config = SimpleNamespace(target=TargetConfig())
    pending = {"abc": SimpleNamespace(label="pooling=mean", config=config)}
    trial = SimpleNamespace(config={"digest": "abc"}, last_result={"error": None})
    seen = []
    watch = SimpleNamespace(ended=lambda *result: seen.append(result))
    SweepProgress(pending, 1, tmp_path, watch).on_trial_complete(0, [], trial)  # pyright: ignore
    assert seen == [("abc", None)]
    assert capsys.readouterr().out == f"sweep: 1/1 configs, pooling=mean: {said}\n"
