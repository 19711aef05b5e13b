"""Phantom: scan-like images of made-up findings, a data set of them, and the model pre-trained on more of them."""
