"""Family of tissue masks: ``build(*, ...)`` -> (Thumbnail, mpp) to bool mask."""
