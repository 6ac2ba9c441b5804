"""report.html: one file that opens from disk, of blocks that sections are made of."""
