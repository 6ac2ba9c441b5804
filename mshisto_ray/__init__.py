"""Multi-scale histopathology on Ray."""
