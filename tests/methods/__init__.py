"""Example methods, and the tests of methods."""
