"""The window, its panes and its views. It draws datasets and computes nothing."""
