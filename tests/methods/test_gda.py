"""GDA beyond the classes that it was fitted to."""

import pytest
import torch

from ogkd.core import UserError
from ogkd.predict.export import export
from ogkd.predict.predictor import Predictor
from ogkd.predict.trained import from_run
from tests.support.check_method import SmallRuns


def test_with_novel_it_names_other_classes_and_saves_what_is_not_exported(tmp_path, data, cache):
    runs = SmallRuns("GDA", tmp_path, data, cache)
    assert runs.run("novel", "TRAINER.GDA.NOVEL", "True")["novel"]
    tested = runs.predictions("novel")
    prompt = from_run(tmp_path / "novel")
    images = [data / "Phantom" / "Phantom" / image for image in tested.images[:3]]
    backwards = Predictor(prompt, classes=prompt.classnames[::-1]).logits(images)
    torch.testing.assert_close(
        torch.tensor(backwards[:, ::-1].copy()), torch.tensor(tested.logits[:3]), rtol=1e-4, atol=1e-3
    )
    other = Predictor(prompt, classes=[*prompt.classnames, "one thing", "another thing"]).logits(images)
    assert other.shape == (3, len(prompt.classnames) + 2)
    with pytest.raises(UserError, match="feature of each training image"):
        export(tmp_path / "novel", tmp_path / "exported")
