"""The picture of a metric against the strength of noise."""

from types import SimpleNamespace

from matplotlib.figure import Figure

from mshisto_ray import config
from mshisto_ray.mil.experiment import ExperimentConfig
from mshisto_ray.reporting.noise_curve import plot_noise


def outcome(sigma):
    raw = {"noise": {"name": "gaussian", "sigma": sigma}, "bags": "bags.parquet"}
    names = [
        f"{p}_auroc_{e}" for p in ("val", "test") for e in ("mean", "ci_low", "ci_high")
    ]
    given = config.validate(ExperimentConfig, raw)
    point = SimpleNamespace(config=given, values={"noise.sigma": sigma})
    return SimpleNamespace(point=point, metrics=dict.fromkeys(names, 0.5))


def test_labels_of_many_strengths_are_few_enough_to_read(tmp_path, monkeypatch):
    drawn, save = [], Figure.savefig
    monkeypatch.setattr(
        Figure,
        "savefig",
        lambda self, *a, **k: (drawn.append(self), save(self, *a, **k)),
    )
    ranked = [outcome(place / 100) for place in range(50)]
    assert plot_noise(tmp_path / "noise.png", ranked, "auroc", "AUROC")
    for axes in drawn[0].axes:
        labels = [text.get_text() for text in axes.get_xticklabels()]
        assert len(labels) <= 8 and labels[:2] == ["0", "0.07"]


def test_lines_are_named_in_words_below_the_panels(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(Figure, "savefig", lambda self, *a, **k: drawn.append(self))
    ranked = [outcome(sigma) for sigma in (0, 1, 0, 1)]
    for hidden, one in zip(([], [], [256], [256]), ranked, strict=True):
        one.point.values["hidden"] = hidden
    assert plot_noise(tmp_path / "noise.png", ranked, "auroc", "AUROC")
    assert not any(axes.get_legend() for axes in drawn[0].axes)
    (legend,) = drawn[0].legends
    names = [text.get_text() for text in legend.get_texts()]
    assert names == ["hidden 256", "no hidden layer"]
