"""Family of encoders: ``build(device, precision, *, ...)`` -> Encoder."""

from mshisto_ray.encoders._encoder import Encoder, check_takes

__all__ = ["Encoder", "check_takes"]
