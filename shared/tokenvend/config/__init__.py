"""Settings: what a text may be, the table, and what an endpoint is made of."""
