"""Statistics of times to an event that not every patient has been followed up to."""
