"""What looks at an installation and its pictures."""
