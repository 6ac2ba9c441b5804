"""Family of encoders: ``build(device, precision, *, ...)`` -> Encoder."""
