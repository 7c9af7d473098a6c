"""What a figure is, how it is drawn, and how it is saved."""
