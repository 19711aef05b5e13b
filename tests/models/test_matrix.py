"""Every method on every kind of model: docs/backbones.md has what the cells say."""

import pytest

from tests.support import matrix
from tests.support.methods import small_resnet


@pytest.mark.slow
def test_the_page_has_what_each_method_does_on_each_kind_of_model():
    with small_resnet():
        texts = dict(matrix.cells())
    assert matrix.in_page() == matrix.table(texts), "run python -m tests.support.matrix"
