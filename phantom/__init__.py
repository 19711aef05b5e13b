"""Phantom: scan-like images of made-up findings, a data set of them, and the model pre-trained on more of them."""

import dassl.utils.errors  # noqa: F401  before NumPy, so that an interrupt of its import is quiet too
