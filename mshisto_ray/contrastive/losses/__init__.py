"""Family of contrastive losses: ``build(*, ...)`` -> ContrastiveLoss."""
