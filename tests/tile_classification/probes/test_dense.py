EXAMPLES = [{}, {"hidden": [8], "reduction": {"name": "pca", "dim": 4}}]
