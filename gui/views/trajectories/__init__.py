"""Views over training, offered by every analysis."""
