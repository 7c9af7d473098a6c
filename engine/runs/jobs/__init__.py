"""What the compute process can be asked, and the process itself."""
