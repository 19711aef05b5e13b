"""Phantom: synthetic scan-like images of made-up findings, data sets of them, and a model pre-trained on others."""

import ogkd.core.errors  # noqa: F401  before NumPy, so that interrupting its import prints no traceback
