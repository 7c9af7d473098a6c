"""The parts of the window that the user sees."""
