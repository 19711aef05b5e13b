"""What surrounds a run: its configuration, its folder, and the protocols that string runs together."""
