"""tokenvend: scoped Google Cloud tokens for AWS and Azure workloads, without a key."""

__version__ = "0.1.0"
