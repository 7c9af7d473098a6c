"""Texts to token batches: built-in, files, Hugging Face datasets."""
