"""A folder of pure functions for each analysis: dataset and selection in, Figure out."""
