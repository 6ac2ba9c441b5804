"""Family of stain normalisations: ``build(*, ...)`` -> Stain."""
