"""Contrastive pretraining of an encoder: pairs, augmentation, losses, training."""
