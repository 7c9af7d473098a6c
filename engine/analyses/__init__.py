"""The analyses: one folder each, listed in the registry."""
