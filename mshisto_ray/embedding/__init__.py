"""From planned tiles to embeddings: read, embed, one shard a chunk."""
