import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from mshisto_ray.tile_classification.probes import Fold, linear


def pipeline(strength):
    model = LogisticRegression(C=strength, class_weight="balanced", max_iter=500)
    return make_pipeline(StandardScaler(), model)


def test_equals_scikit_learn_with_its_strength_chosen_on_validation(planted_tiles):
    samples = planted_tiles(classes=3, seed=2)
    fold = Fold(np.arange(60), np.arange(60, 180), np.arange(180, 240), (0, 0))
    strengths = (1e-4, 1e-2, 1.0)
    values, target = samples.features.values.astype(float), samples.target
    scores = [
        balanced_accuracy_score(
            target[fold.validation],
            pipeline(c).fit(values[:60], target[:60]).predict(values[fold.validation]),
        )
        for c in strengths
    ]
    best = strengths[int(np.argmax(scores))]
    wanted = pipeline(best).fit(values[:180], target[:180])
    found = linear.build(strengths=strengths)(samples, fold)
    np.testing.assert_allclose(found, wanted.predict_proba(values[180:]), atol=1e-6)
