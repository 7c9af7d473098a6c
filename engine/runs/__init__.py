"""Carry out a request: plan, units, progress, cancel, memory, commit; here or in a child process."""
