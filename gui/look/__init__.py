"""Style sheet, icons and small widgets."""
