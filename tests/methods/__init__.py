"""The tests of methods."""
