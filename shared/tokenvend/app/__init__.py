"""The composition roots, one a cloud: settings in, an endpoint out."""
