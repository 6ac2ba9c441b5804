"""The contract between stages: cohort, schemas, manifests, shards, failures."""
