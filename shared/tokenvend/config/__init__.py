"""Settings: the table, and what single values may be."""
