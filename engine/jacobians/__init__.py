"""Jacobians of transformer blocks: closed forms, the reference path, means, spectra (methods §6)."""
