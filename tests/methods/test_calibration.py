"""CalibPrompt's terms, which every prompt method takes."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from ogkd.tuning.calibration import separation, smac, smoothed_cross_entropy
from tests.support.methods import build
from tests.test_methods import PROMPT_METHODS as METHODS
from tests.test_trainings import BATCHES, CLASSES, PICTURES, SENTENCES, WIDTH, WORDS

ON = {"LABEL_SMOOTHING": 0.2, "SMAC": 1.0, "SEPARATION": 3.0}


def test_the_terms_have_the_values_of_the_authors_code():
    """Those of iabh1shekbasu/CalibPrompt@c6ec13e with a smoothing of 0.2."""
    random = np.random.RandomState(26)
    logits, text = (torch.from_numpy(random.standard_normal(shape)).float() for shape in ((7, 4), (4, 8)))
    logits, text, label = 3 * logits, F.normalize(text, dim=-1), torch.tensor([0, 1, 1, 2, 0, 1, 3])
    got = [smoothed_cross_entropy(logits, label, 0.2), smac(logits, label, 0.2), separation(text)]
    torch.testing.assert_close(torch.stack(got), torch.tensor([3.51844, 0.0304430, 0.141854]), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("share", [0.2, 0.9])
def test_the_other_classes_get_the_share_of_a_label_also_if_it_is_most_of_it(share):
    logits, label = torch.tensor([[1.0, 0.0], [-2.0, 3.0]]), torch.tensor([0, 0])
    targets = torch.tensor([[1 - share, share]]).expand(2, 2)
    torch.testing.assert_close(smoothed_cross_entropy(logits, label, share), F.cross_entropy(logits, targets))


def test_one_class_has_terms_of_zero():
    logits, label = torch.randn(3, 1), torch.zeros(3, dtype=torch.long)
    for value in (smoothed_cross_entropy(logits, label, 0.0), smac(logits, label, 0.0), separation(torch.ones(1, 1))):
        assert value == 0


@pytest.mark.parametrize("method", METHODS)
def test_every_prompt_method_takes_the_terms_and_has_none_by_default(tmp_path, method):
    prompted = {"CTX_INIT": "", "TEXT_DROPOUT": 0.0} if method != "VPT" else {}
    common = prompted | {"OPTIM__MAX_EPOCH": 2, "OPTIM__LR": 0.1}
    names, learned = [], []
    for folder, options in (("off", {}), ("on", ON), ("ce", {"LABEL_SMOOTHING": 0.2}), ("smac", {"SMAC": 1.0})):
        (tmp_path / folder).mkdir()
        built = build(method, tmp_path / folder, CLASSES, WORDS, SENTENCES, WIDTH, **common, **options)
        batches = BATCHES if built.method.frozen_images else PICTURES
        built.train(batches)
        names.append(set(built.losses(*batches[0])[0]))
        learned.append(torch.cat([value.detach().flatten() for value in built.learned.values()]))
    off, on, smoothed, matched = names
    assert on - off == {"smac", "separation"}
    assert (smoothed, matched) == (off, off | {"smac"})
    assert all(not torch.equal(learned[0], other) for other in learned[1:])
