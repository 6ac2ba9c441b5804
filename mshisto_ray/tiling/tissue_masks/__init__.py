"""Family of tissue masks: ``build(*, ...)`` -> TissueMask."""
