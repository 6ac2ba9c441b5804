"""From a slide to its planned tiles: resolution, tissue, grid, chunks, pixels."""
