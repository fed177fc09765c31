"""Bodies on the wire, one definition of each: JSON objects, our own routes, Google STS's shapes."""
