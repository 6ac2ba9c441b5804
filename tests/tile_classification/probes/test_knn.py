import numpy as np
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler

from mshisto_ray.tile_classification.probes import Fold, knn


def test_equals_scikit_learn(planted_tiles):
    samples = planted_tiles(classes=3)
    fold = Fold(np.arange(100), np.arange(100, 180), np.arange(180, 240), (0, 0))
    values = samples.features.values.astype(float)
    scaler = StandardScaler().fit(values[:180])
    model = KNeighborsClassifier(
        7, metric="cosine", weights=lambda distance: np.exp(-distance / 0.1)
    ).fit(scaler.transform(values[:180]), samples.target[:180])
    wanted = model.predict_proba(scaler.transform(values[180:]))
    found = knn.build(k=7, temperature=0.1)(samples, fold)
    np.testing.assert_allclose(found, wanted, atol=1e-9)
