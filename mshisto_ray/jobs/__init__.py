"""One file a job: its config, its check, its run."""
