"""Files of other software: GeoJSON for QuPath."""
