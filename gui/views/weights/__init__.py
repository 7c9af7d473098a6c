"""The views of the `weights` analysis."""
