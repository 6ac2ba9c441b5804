"""Pictures of arrays: overviews, contact sheets, heat maps."""
