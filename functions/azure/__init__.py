"""Azure Functions."""
