"""The audit record of a request, and the chain that records form."""
