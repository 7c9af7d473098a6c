"""The commands behind menus, shortcuts and buttons."""
