"""Pictures and tables for people, drawn from arrays."""
