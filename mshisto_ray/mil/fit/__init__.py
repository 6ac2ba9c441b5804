"""Training of MIL models on bags, fold by fold or together."""
