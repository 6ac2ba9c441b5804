"""Configs of one task compared: their points, results and choice, whatever the task."""
