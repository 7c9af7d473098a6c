"""Figures as files: pictures, numbers and scripts."""
