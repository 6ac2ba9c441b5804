"""Fine-tuning of encoders on classes of single tiles."""
