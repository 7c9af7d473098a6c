"""The session on disk: committed units, results, provenance, zip, verification, export."""
