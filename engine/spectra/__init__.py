"""Arrays to numbers: summaries, random matrices, factored spectra. Pure functions that know no model."""
