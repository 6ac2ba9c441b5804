"""What the studies of Ilse 2018 share."""

# Of the tables and figures of the paper, in their order.
PAPER_POOLINGS = (
    "instance_max",
    "instance_mean",
    "embedding_max",
    "embedding_mean",
    "attention",
    "gated_attention",
)
