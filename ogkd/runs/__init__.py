"""Runs: what defines one, how it is executed, protocols of several, plans of many, plugins."""
