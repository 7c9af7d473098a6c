"""The views of the `attention` analysis."""
