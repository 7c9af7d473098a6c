"""The views of the `activations` analysis."""
