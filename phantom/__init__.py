"""Pre-training of PhantomCLIP and the sentences of the Phantom data sets; the data sets are in ogkd.phantom."""

import ogkd  # noqa: F401  phantom.dataset is a former name
