"""Family of pair sources: ``build(index, *, ...)`` -> PairSource."""
