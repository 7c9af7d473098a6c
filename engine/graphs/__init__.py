"""Correlation graphs of units, their communities, and what communities have to do with an operator."""
