"""What the launcher can do, one file a mode."""
