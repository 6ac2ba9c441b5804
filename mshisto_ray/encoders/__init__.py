"""Family of encoders: ``build(device, precision, *, ...)`` -> Encoder.

An encoder directory (weights and how to use them) is what trainings write. A published
network is a recipe, a YAML file in ``recipes/``, and needs no code. An encoder may have
``warnings``, lines that a job shows whose user embeds with it.
"""

from mshisto_ray.encoders._encoder import Encoder, check_takes
from mshisto_ray.encoders._licence import licence_of
from mshisto_ray.encoders.checkpoint import build as read_encoder
from mshisto_ray.encoders.checkpoint import load_start, read_digest, read_transform
from mshisto_ray.encoders.checkpoint import save as save_encoder

__all__ = [
    "Encoder",
    "check_takes",
    "licence_of",
    "load_start",
    "read_digest",
    "read_encoder",
    "read_transform",
    "save_encoder",
]
