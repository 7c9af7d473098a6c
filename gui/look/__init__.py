"""Style sheet, icons, and the small widgets that panes share."""
