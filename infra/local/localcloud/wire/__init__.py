"""Between callers and the stand-ins: HTTP, TLS, the proxy, route tables, faults."""
