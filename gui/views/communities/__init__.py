"""The views of the `communities` analysis."""
