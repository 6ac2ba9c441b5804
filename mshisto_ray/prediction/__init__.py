"""Apply a saved head: units of work, result tables, pictures."""
