"""Outputs made again from their manifests, and compared."""
