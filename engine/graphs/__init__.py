"""Correlation graphs of units, their communities, and the coupling of communities to an operator."""
