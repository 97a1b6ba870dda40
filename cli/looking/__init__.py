"""Commands that show something while it is looked at."""
