"""Phantom: scan-like images of made-up findings, a data set of them, and the small model that was pre-trained on more."""
