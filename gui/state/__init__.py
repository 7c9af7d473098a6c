"""What the window knows: document, runs, results, selection, settings, and its threads."""
