"""All computing of Eigenscope: models, data, spectra, analyses, runs, sessions. It knows no Qt."""
