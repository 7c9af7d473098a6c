"""The views of the `gradients` analysis."""
