"""predict.py: the trainer's own classifier on any image, from a run's folder, without its data."""

from __future__ import annotations

import csv
import io
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ogkd.core import UserError
from ogkd.evaluation.metrics import fit_temperature
from ogkd.evaluation.predictions import Predictions
from ogkd.phantom.dataset import draw_class
from ogkd.predict import heatmaps
from ogkd.predict.command import main
from ogkd.predict.predictor import Predictor, probabilities
from ogkd.predict.trained import from_run
from tests.support import tiny_models
from tests.support.check_method import SmallRuns

WITH_PATCHES = ["OGKD", "CoCoOp", "MaPLe"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory, data, cache):
    """Finished short runs by method: runs("OGKD") -> (folder, predictions)."""
    made: dict[str, SmallRuns] = {}

    def of(method: str) -> tuple[Path, Predictions]:
        if method not in made:
            made[method] = SmallRuns(method, tmp_path_factory.mktemp(method), data, cache)
            made[method].run("run")
        return made[method].folder / "run", made[method].predictions("run")

    return of


@pytest.fixture
def image_folder(data) -> Path:
    return data / "Phantom" / "Phantom"


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("method", ["OGKD", "LinearProbe"])
def test_a_run_predicts_the_logits_of_its_test_without_its_data(runs, data, image_folder, tmp_path, method):
    folder, tested = runs(method)
    moved = tmp_path / "moved"
    shutil.copytree(folder, moved)
    config = (moved / "config.yaml").read_text().replace(str(data), "/nowhere").replace(str(folder), "/nowhere")
    (moved / "config.yaml").write_text(config)
    images = [image_folder / image for image in tested.images]
    logits = Predictor(from_run(moved)).logits(images, batch=5)
    np.testing.assert_allclose(logits, tested.logits, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("method", WITH_PATCHES)
def test_the_evidence_of_a_patch_is_its_logit_and_leaves_the_image_s_logits_alone(runs, image_folder, method):
    folder, tested = runs(method)
    predictor = Predictor(from_run(folder))
    pictures = [Image.open(image_folder / image).convert("RGB") for image in tested.images[:3]]
    plain, looked_at = predictor(pictures), predictor(pictures, patches=True)
    assert plain.patch_logits is None
    np.testing.assert_allclose(looked_at.logits, plain.logits, rtol=1e-4, atol=1e-3)
    assert looked_at.patch_logits.shape == (3, 100, 12)  # 160 pixels in patches of 16
    assert abs(looked_at.patch_logits).max() <= predictor.method.scale * (1 + 1e-5)  # a cosine, scaled


def test_the_evidence_is_what_local_distillation_looks_at(runs, image_folder, monkeypatch):
    folder, tested = runs("OGKD")
    predictor = Predictor(from_run(folder))
    picture = Image.open(image_folder / tested.images[0]).convert("RGB")
    evidence = predictor([picture], patches=True).patch_logits
    method = predictor.method
    features = method.encode(predictor.transform(picture)[None], patches=True)
    expected = method.scale * features.patch_tokens @ method.text_features().t()
    np.testing.assert_allclose(evidence, expected.detach().numpy(), rtol=1e-4, atol=1e-4)


def test_each_image_has_a_line_and_a_damaged_one_its_own(runs, command, image_folder, tmp_path):
    folder, _ = runs("OGKD")
    images = tmp_path / "scans"
    (images / "deep" / "er").mkdir(parents=True)
    shutil.copy(image_folder / "smooth_mass" / "000.png", images / "deep" / "er" / "a.png")
    Image.open(image_folder / "simple_cyst" / "001.png").save(images / "b.TIFF")
    (images / "c.jpg").write_bytes(b"\xff\xd8 not really")
    (images / "notes.txt").write_text("no image")
    done = command(["predict.py", str(folder), str(images), str(tmp_path / "absent.png")])
    lines = done.stdout.splitlines()
    assert done.returncode == 0
    named = [images / "b.TIFF", images / "c.jpg", images / "deep/er/a.png", tmp_path / "absent.png"]
    assert [line.partition(":")[0] for line in lines] == list(map(str, named))
    assert lines[0].count("%") == lines[2].count("%") == 3
    assert "cannot be read" in lines[1] and "is missing" in lines[3]
    assert "warning: 2 of 4 images could not be read" in done.stderr
    assert "not a medical device" in done.stderr
    assert "PhantomCLIP knows only the synthetic images" in done.stderr


def test_files_of_several_frames_and_blank_images_are_counted(runs, image_folder, tmp_path, capsys):
    with Image.open(image_folder / "smooth_mass" / "000.png") as image:
        image.save(tmp_path / "a.tif", save_all=True, append_images=[image, image])
    Image.new("L", (8, 8)).save(tmp_path / "b.png")
    main([str(runs("CoOp")[0]), str(tmp_path)])
    warned = capsys.readouterr().err
    assert "1 of 2 images have several frames or pages" in warned
    assert "1 of 2 images are blank" in warned


def test_files_of_a_folder_that_may_be_images_but_are_not_read_are_counted(runs, image_folder, tmp_path, capsys):
    shutil.copy(image_folder / "smooth_mass" / "000.png", tmp_path / "an image without a suffix")
    for name in ("a.gif", "b.nii.gz", "notes.txt"):
        (tmp_path / name).write_bytes(b"")
    main([str(runs("CoOp")[0]), str(tmp_path)])
    out, err = capsys.readouterr()
    assert "without a suffix: " in out and "kinds that are not read" in err and ": 2 (" in err


def test_a_list_comes_from_the_standard_input_and_a_table_goes_to_a_file(
    runs, command, image_folder, tmp_path, monkeypatch
):
    folder, tested = runs("CoOp")
    paths = [str(image_folder / image) for image in tested.images]
    monkeypatch.setattr(sys, "stdin", io.StringIO("\n".join([*paths, "", "absent.png"])))
    done = command(["predict.py", str(folder), "-", "--csv", str(tmp_path / "t.csv"), "--batch", "7"])
    assert done.returncode == 0 and done.stdout == ""
    table = rows(tmp_path / "t.csv")
    assert [row["image"] for row in table] == [*paths, "absent.png"]
    assert [row["decision"] for row in table[:-1]] == [tested.classnames[place] for place in tested.predicted]
    np.testing.assert_allclose([float(row["probability_1"]) for row in table[:-1]], tested.confidence, atol=1e-4)
    assert "missing" in table[-1]["problem"] and table[-1]["class_1"] == ""
    chances = [[row[f"probability of {name}"] for name in tested.classnames] for row in table]
    np.testing.assert_allclose(np.array(chances[:-1], float), probabilities(tested.logits), atol=1e-4)
    assert set(chances[-1]) == {""}
    assert table[-2]["probability_1"] == table[-2][f"probability of {table[-2]['class_1']}"]
    monkeypatch.setattr(sys, "stdin", io.StringIO("=1+1.png\n@SUM(A1).png"))
    command(["predict.py", str(folder), "-", paths[0], "--csv", str(tmp_path / "t.csv")])
    assert [row["image"] for row in rows(tmp_path / "t.csv")] == ["'=1+1.png", "'@SUM(A1).png", paths[0]]


def test_the_temperature_is_that_of_the_validation_images(runs, command, image_folder, tmp_path):
    folder, tested = runs("OGKD")
    temperature = fit_temperature(Predictions.load(folder / "val_predictions.npz"))
    done = command(["predict.py", str(folder), str(image_folder / tested.images[0]), "--calibrated",
                    "--csv", str(tmp_path / "t.csv")])  # fmt: skip
    assert f"Temperature {temperature:.3f}" in done.stderr
    expected = probabilities(tested.logits[:1], temperature).max()
    assert abs(float(rows(tmp_path / "t.csv")[0]["probability_1"]) - expected) < 1e-4
    assert abs(temperature - 1) > 0.01
    shutil.copytree(folder, tmp_path / "run")
    (tmp_path / "run" / "val_predictions.npz").unlink()
    done = command(["predict.py", str(tmp_path / "run"), "a.png", "--calibrated"])
    assert done.returncode == 2 and "has no temperature" in done.stderr


def test_an_image_is_uncertain_below_the_probability_that_is_asked_for(runs, command, image_folder):
    folder, tested = runs("CoOp")
    image, sure = str(image_folder / tested.images[0]), tested.confidence[0]
    above = command(["predict.py", str(folder), image, "--abstain", f"{sure + 0.01:.4f}"])
    below = command(["predict.py", str(folder), image, "--abstain", f"{sure - 0.01:.4f}"])
    assert "uncertain (" in above.stdout and "uncertain" not in below.stdout


def test_a_prompt_names_classes_that_it_never_saw(runs, image_folder, command):
    folder, tested = runs("OGKD")
    two = (tested.classnames[3], tested.classnames[0])
    predictor = Predictor(from_run(folder), classes=list(two))
    images = [image_folder / image for image in tested.images[:5]]
    np.testing.assert_allclose(predictor.logits(images), tested.logits[:5, [3, 0]], rtol=1e-4, atol=1e-3)
    done = command(["predict.py", str(folder), str(images[0]), "--classes", "a scar, healthy tissue"])
    assert "a scar" in done.stdout and "healthy tissue" in done.stdout and done.returncode == 0


def test_for_other_classes_there_is_no_temperature(runs, image_folder, command, tmp_path):
    folder, tested = runs("OGKD")
    words = [str(folder), str(image_folder / tested.images[0]), "--calibrated", "--csv", str(tmp_path / "t.csv")]
    done = command(["predict.py", *words, "--classes", f"a scar, {tested.classnames[0]}"])
    assert done.returncode == 0 and "Temperature" not in done.stderr
    assert "not trained on these classes: a scar. " in done.stderr
    (row,) = rows(tmp_path / "t.csv")
    logits = Predictor(from_run(folder), ["a scar", tested.classnames[0]]).logits([image_folder / tested.images[0]])
    assert abs(float(row["probability of a scar"]) - probabilities(logits)[0, 0]) < 1e-4
    assert row["unlike the training images"] == ""
    done = command(["predict.py", *words, "--classes", ", ".join(reversed(tested.classnames))])
    assert "Temperature" in done.stderr and "not trained" not in done.stderr


def test_equal_file_names_in_two_folders_are_told_apart(runs, command, image_folder, tmp_path):
    folder, _ = runs("OGKD")
    given = [tmp_path / "july", tmp_path / "august" / "scans"]
    for place, name in zip(given, ("smooth_mass", "simple_cyst"), strict=True):
        (place / "deep").mkdir(parents=True)
        shutil.copy(image_folder / name / "000.png", place / "deep")
    table, maps = tmp_path / "t.csv", tmp_path / "maps"
    words = [*map(str, given), str(given[0] / "deep/000.png"), "--csv", str(table), "--heatmaps", str(maps)]
    done = command(["predict.py", str(folder), *words])
    assert done.returncode == 0, done.stderr
    images = [path for place in given for path in sorted(place.rglob("*.png"))] + [given[0] / "deep/000.png"]
    assert [row["image"] for row in rows(table)] == list(map(str, images))
    drawn = {path.relative_to(maps).as_posix() for path in maps.rglob("*.png")}
    expected = {f"{path.relative_to(tmp_path).as_posix()}.png" for path in images}
    assert drawn == expected | {"july/deep/000.png-2.png"}  # the image that was given twice


def right_picture(page: Image.Image) -> np.ndarray:
    """The map of a page, (SIDE, SIDE, 3)."""
    left, top = 2 * heatmaps.MARGIN + heatmaps.SIDE, 2 * heatmaps.LINE + heatmaps.MARGIN
    return np.asarray(page.crop((left, top, left + heatmaps.SIDE, top + heatmaps.SIDE))).astype(int)


def page(chances, view="grey", name="a.png", answer="mass 90.0%", sure=True) -> Image.Image:
    return heatmaps.draw(Image.new("RGB", (32, 32), view), np.asarray(chances), "mass", 3, name, answer, sure)


def test_a_heat_map_is_bright_where_the_class_is_likely_and_flat_where_no_patch_stands_out():
    chances = np.full((4, 4), 0.1)
    chances[1, 2] = 0.9
    brightness = right_picture(page(chances.ravel())).sum(-1)
    y, x = np.unravel_index(brightness.argmax(), brightness.shape)
    assert (y * 4 // heatmaps.SIDE, x * 4 // heatmaps.SIDE) == (1, 2)
    weak = right_picture(page(np.full(16, 0.1) + 1e-4 * np.arange(16)))
    assert weak.max((0, 1)).tolist() == pytest.approx(weak.min((0, 1)).tolist(), abs=2)  # no stretching
    assert weak.mean() < right_picture(page(np.full(16, 0.9))).mean()  # one scale for all maps


def test_what_is_written_on_a_heat_map_fits_and_is_the_same_on_light_and_dark_images():
    text = "/a very long folder" * 20 + "/π_042.png"
    light, dark = (np.asarray(page(np.full(16, 0.5), view, name=text, sure=False)) for view in ("white", "black"))
    above = 2 * heatmaps.LINE + heatmaps.MARGIN
    assert (light[:above] == dark[:above]).all() and (light[:above, -heatmaps.MARGIN // 2 :] == 255).all()
    letters = heatmaps.font(heatmaps.LARGE)
    assert heatmaps.shortened(text, letters, 300, keep_end=True).endswith("/π_042.png")
    assert letters.getlength(heatmaps.shortened(text, letters, 300, keep_end=True)) <= 300


def test_a_resnet_has_heat_maps_too(command, data, cache, tmp_path):
    tiny_models.native_clip(tmp_path / "resnet", resnet=True)
    runs = SmallRuns("ZeroShot", tmp_path / "runs", data, cache)
    runs.run("run", backbone=str(tmp_path / "resnet"))
    image = data / "Phantom" / "Phantom" / "smooth_mass" / "000.png"
    done = command(["predict.py", str(tmp_path / "runs" / "run"), str(image), "--heatmaps", str(tmp_path / "maps")])
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "maps" / "000.png.png").is_file()
    assert "PhantomCLIP" not in done.stderr


def test_nothing_of_an_image_is_kept(runs, command, tmp_path, image_folder, cache):
    folder, _ = runs("OGKD")
    image = tmp_path / "Jane Doe 1960.png"
    Image.fromarray(draw_class("phantom", 1, seed=9, count=1)[0][0]).save(image)
    before = {path: path.stat().st_mtime_ns for place in (folder, cache) for path in place.rglob("*")}
    assert command(["predict.py", str(folder), str(image)]).returncode == 0
    assert {path: path.stat().st_mtime_ns for place in (folder, cache) for path in place.rglob("*")} == before


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["no such run", "a.png"], "There is no folder no such run"),
        (["{run}/prompt_learner", "a.png"], "is neither a run's folder"),
        (["{run}", "a.png", "--abstain", "2"], "--abstain must be a probability"),
        (["{run}", "a.png", "--batch", "-1"], "--batch must be a number of images"),
        (["{run}", "a.png", "--classes", "one"], "must be two or more different class names"),
        (["{run}", "a.png", "--classes", "a, b, a"], "must be two or more different class names"),
        (["{run}", "{empty}"], "contains no images: give RUN first"),
        (["{run}", "absent.png"], "No image could be read"),
        (["{run}", "a.png", "--backbone", "nowhere"], "nowhere does not exist: give its location with --backbone"),
        (["{probe}", "a.png", "--classes", "a, b"], "applies only to its classes"),
        (["{probe}", "a.png", "--heatmaps", "maps"], "patches have no evidence to draw"),
    ],
)
def test_what_is_wrong_is_reported_in_one_sentence(runs, command, tmp_path, words, sentence):
    (tmp_path / "empty").mkdir()
    places = {"run": runs("OGKD")[0], "probe": runs("LinearProbe")[0], "empty": tmp_path / "empty"}
    done = command(["predict.py", *(word.format(**places) for word in words)])
    assert done.returncode == 2
    assert sentence in done.stderr and done.stderr.count("error: ") == 1
    assert "Traceback" not in done.stderr


def test_a_test_of_another_run_and_an_unfinished_one_say_so(runs, tmp_path, data, cache):
    folder, _ = runs("CoOp")
    small = SmallRuns("CoOp", tmp_path, data, cache)
    small.run("novel", eval_only=True, model_dir=str(folder), subsample="new")
    with pytest.raises(UserError, match=r"only tested what another run had learned.*novel classes with --classes"):
        from_run(tmp_path / "novel")
    shutil.copytree(folder, tmp_path / "begun")
    (tmp_path / "begun" / "results.json").unlink()
    with pytest.raises(UserError, match="is not finished"):
        from_run(tmp_path / "begun")


def test_a_method_whose_image_tower_sees_prompts_has_validation_predictions_too(runs):
    assert len(Predictions.load(runs("MaPLe")[0] / "val_predictions.npz")) == 24


def test_a_model_s_file_and_openai_s_names_are_backbones_to_predict_with(runs, tmp_path):
    prompt, file = from_run(runs("CoOp")[0]), tmp_path / "model.pt"
    with pytest.raises(UserError, match="does not exist"):
        prompt.check_backbone(str(file))
    file.touch()
    for name in (str(file), "ViT-B/16"):
        prompt.check_backbone(name)
