"""State of the window: document, runs, results, selection and settings, and the threads that serve them."""
