"""From planned tiles to embeddings: read, embed, write one shard per chunk."""
