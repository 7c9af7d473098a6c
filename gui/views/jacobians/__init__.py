"""The views of the `jacobians` analysis."""
