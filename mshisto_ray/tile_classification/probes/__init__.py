"""Family of probes: what encoders are compared by on labelled tiles."""

from mshisto_ray.tile_classification.probes._probe import Fold, Probe, standardised

FAMILY = "mshisto_ray.tile_classification.probes"

__all__ = ["FAMILY", "Fold", "Probe", "standardised"]
