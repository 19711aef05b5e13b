"""The report: what it says about runs, what it does not reveal, and how it treats files from others."""

import html
import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from itertools import combinations, pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from ogkd.classes import read_geometry
from ogkd.cli import report
from ogkd.core import UserError, run_program
from ogkd.evaluation.predictions import Predictions
from ogkd.evaluation.statistics import DRAWS, bootstrap
from ogkd.reports.page import write
from ogkd.reports.page.canvas import COLOURS, Drawing, canvas, drawing, place
from ogkd.reports.page.confusion import confusion
from ogkd.reports.page.evidence import FEWEST_DRAWS, Evaluation, draws_for
from ogkd.reports.page.images import thumbnail
from ogkd.reports.page.logs import training_curves
from ogkd.reports.page.mistakes import confident_mistakes, costliest
from ogkd.reports.page.notes import Notes
from ogkd.reports.page.relation import class_tree
from tests.conftest import ROOT
from tests.report_runs import LINE, random_predictions, write_log, write_output, write_run

pytestmark = pytest.mark.slow

HOSTILE = '<script>alert("x")</script><img src=x onerror=alert(1)>'


class Page(HTMLParser):
    """What a browser would find in a page: its elements and its text."""

    def __init__(self, path):
        super().__init__()
        self.elements, self.words = [], []
        self.source = path.read_text(encoding="utf-8")
        self.feed(self.source)
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data):
        if self.elements and self.elements[-1][0] != "style":
            self.words.append(data)

    def all(self, tag):
        return [attrs for name, attrs in self.elements if name == tag]

    @property
    def ids(self):
        return [attrs["id"] for _, attrs in self.elements if "id" in attrs]


@pytest.fixture(scope="module")
def output(data, tmp_path_factory):
    """A folder with runs of both protocols, and their predictions."""
    folder = tmp_path_factory.mktemp("output")
    return folder, write_output(folder, data)


@pytest.fixture(scope="module")
def page(output, tmp_path_factory):
    return Page(write(output[0], tmp_path_factory.mktemp("page") / "report.html"))


def classes_and_labels(number=60, names=("cyst", "mass", "normal")):
    return [f"img/{i:03}.png" for i in range(number)], [i % len(names) for i in range(number)], names


@pytest.fixture
def small(tmp_path):
    """A folder with one method's runs of few-shot on images that are not available: small(method, **of write_run)."""
    images, labels, names = classes_and_labels()

    def make(method="OGKD", seed=1, kept=True, classnames=names, **changes):
        predictions = random_predictions(images, labels, classnames, 2, seed) if kept else None
        return write_run(tmp_path / "out" / method / str(seed), "few_shot", method, seed, predictions, **changes)

    return make, tmp_path


# What it says


def test_tables_show_the_mean_over_seeds_with_its_interval_over_test_images(page, output):
    written = output[1]
    for kind, shots in {(kind, shots) for kind, shots, *_ in written}:
        for method in ("ZeroShot", "CoOp", "OGKD"):
            seeds = [written[kind, shots, method, seed] for seed in (1, 2)]
            mean = np.mean([100 * (one.logits.argmax(1) == one.labels).mean() for one in seeds])
            interval = bootstrap("accuracy", seeds)
            assert f"{mean:.2f} ± " in page.text
            assert f"{interval.low:.1f} to {interval.high:.1f}" in page.text


def test_every_method_data_set_seed_and_version_that_was_run_is_named(page):
    for word in ("phantom", "Zero-shot", "CoOp", "OGKD", "PhantomCLIP", "python 3.11.7", "1, 4", "24 finished runs"):
        assert word in page.text


def test_the_accuracy_of_always_naming_the_most_frequent_class_stands_beside_the_tables(page, output):
    labels = output[1]["few_shot", 4, "OGKD", 1].labels
    assert f"{100 * np.bincount(labels).max() / len(labels):.1f} % on all classes, 4 shots" in page.text


def test_the_gain_over_zero_shot_is_measured_on_the_same_images(page, output):
    written = output[1]
    accuracy = {
        method: np.mean([100 * written["few_shot", 4, method, seed].correct.mean() for seed in (1, 2)])
        for method in ("ZeroShot", "CoOp", "OGKD")
    }
    gain = max(accuracy.values()) - accuracy["ZeroShot"]
    assert f"{gain:+.1f}" in page.text


def test_every_figure_says_in_words_what_it_shows(page):
    figures = [attrs for tag, attrs in page.elements if attrs.get("role") == "img"]
    assert len(figures) == len(page.all("figure")) > 10
    assert all(len(one["aria-label"]) > 20 for one in figures)
    assert all(one["alt"].strip() for one in page.all("img"))


def test_training_images_and_confident_mistakes_are_shown_from_the_data_set(page, output):
    assert {"Test image of", "Training image of"} <= {" ".join(one["alt"].split()[:3]) for one in page.all("img")}
    named = set(re.findall(r"[a-z_]+/\d+\.png", page.text))
    wrong = {
        image
        for (*_, seed), one in output[1].items()
        for image, right in zip(one.images, one.logits.argmax(1) == one.labels, strict=True)
        if seed == 1 and not right
    }
    assert named and named <= wrong


def test_the_page_loads_nothing_and_runs_nothing(page):
    assert not page.all("script") and not page.all("iframe") and not page.all("object")
    assert all(one["href"] == "data:," for one in page.all("link"))
    assert all(one["src"].startswith("data:image/jpeg;base64,") for one in page.all("img"))
    assert all(one["href"].startswith(("#", "https://arxiv.org/abs/")) for one in page.all("a"))
    assert "@import" not in page.source and "@font-face" not in page.source
    elsewhere = set(re.findall(r"https?://[^\s\"'<)]+", page.source)) - {"http://www.w3.org/2000/svg"}
    assert all(one.startswith(("https://arxiv.org/abs/", "http://www.w3.org/")) for one in elsewhere)


def test_ids_are_unique_and_every_reference_to_one_is_met(page):
    assert len(page.ids) == len(set(page.ids))
    referred = re.findall(r"url\(#([^)]+)\)", page.source) + re.findall(r'href="#([^"]+)"', page.source)
    assert referred and set(referred) <= set(page.ids)


def test_methods_by_name_are_those_in_the_detailed_figures(small):
    make, folder = small
    for method in ("CoOp", "OGKD", "ZeroShot"):
        make(method)
    names = []
    for asked in (None, ["coop"]):
        found = Page(write(folder / "out", folder / "report.html", methods=asked))
        labels = [attrs.get("aria-label", "") for _, attrs in found.elements]
        names.append({one.partition(".")[0].rpartition(" of ")[2] for one in labels if one.startswith("Confusion")})
    assert names[0] >= {"OGKD", "Zero-shot"} and names[1] == {"CoOp"}


def test_several_folders_and_single_runs_make_one_page(small):
    make, folder = small
    runs = [make("OGKD"), make("CoOp"), make("ZeroShot")]
    found = Page(write(runs[:2], folder / "report.html"))
    assert (
        "2 finished runs" in found.text and "CoOp" in found.text and "Zero-shot" not in found.text.split("Methods:")[1]
    )


def test_runs_with_several_backbones_stand_in_sections_of_their_own(small):
    make, folder = small
    make("OGKD"), make("CoOp", backbone="hf-hub:org/Other")
    headings = Page(write(folder / "out", folder / "report.html")).text
    assert "with PhantomCLIP" in headings and "with Other" in headings


def test_plots_are_written_as_png_and_pdf_one_pair_per_figure(small):
    make, folder = small
    make("OGKD")
    found = Page(write(folder / "out", folder / "report.html", plots=folder / "plots"))
    files = sorted((folder / "plots").iterdir())
    assert len(files) == 2 * len(found.all("figure"))
    for file in files:
        if file.suffix == ".pdf":
            assert file.read_bytes().startswith(b"%PDF-")
        else:
            with Image.open(file) as image:
                assert min(image.size) > 300
                assert image.convert("RGB").getpixel((0, 0)) == (255, 255, 255)


# What it keeps to itself


def test_without_images_neither_an_image_nor_the_name_of_one_leaves(output, tmp_path):
    folder, written = output
    page = Page(write(folder, tmp_path / "report.html", images=False))
    assert not page.all("img") and "data:image" not in page.source
    images = {name for one in written.values() for name in one.images}
    assert not [name for name in images if name in page.source or name.split("/")[-1] in page.source]
    assert "taken for" in page.text


def test_without_images_what_could_not_be_read_is_not_quoted(small):
    make, folder = small
    run = make("OGKD")
    make("CoOp")
    stored = dict(np.load(run / "predictions.npz"))
    np.savez(run / "predictions.npz", **{**stored, "labels": stored["labels"] + 7})
    (folder / "out" / "CoOp" / "1" / "split.json").write_text('{"train": [["jane_doe.png", 0]]}')
    openly = write(folder / "out", folder / "report.html").read_text()
    assert "img/00" in openly
    page = write(folder / "out", folder / "private.html", images=False).read_text()
    assert "OGKD/1/predictions.npz: the file is corrupt" in page
    assert "img/0" not in page and "jane" not in page


def test_the_page_does_not_tell_where_on_the_machine_the_runs_lie(small):
    make, folder = small
    make("OGKD", kept=False)
    make("CoOp", seed=2, num_test=3)
    assert str(folder) not in write(folder / "out", folder / "report.html").read_text()


# Foreign and broken files


def test_names_from_elsewhere_are_text_and_nothing_else(small):
    make, folder = small
    names = (HOSTILE, "</svg></style>" + HOSTILE, "$x_1$ & \x07\ud800 'q'")
    make("OGKD", classnames=(*names[:2], "mass"), dataset=HOSTILE, title=HOSTILE, versions={HOSTILE: HOSTILE},
         changed={HOSTILE: HOSTILE})  # fmt: skip
    make(HOSTILE.replace("/", ""), seed=1, classnames=(*names[:2], "mass"), dataset=HOSTILE, title=f'"{HOSTILE}')
    make("CoOp", dataset=names[2].replace("\ud800", ""), backbone=HOSTILE)
    write_log(folder / "out" / "OGKD" / "1", [1.0, 0.5])
    page = Page(write(folder / "out", folder / "report.html", title=HOSTILE))
    assert not page.all("script") and not page.all("img")
    assert not [attrs for _, attrs in page.elements if any(name.startswith("on") for name in attrs)]
    assert page.source.count("<svg") == page.source.count("</svg>") == len(page.all("figure"))
    assert html.escape("<script>", quote=False) in page.source
    assert "\x07" not in page.source


def test_an_image_path_that_leads_out_of_the_data_set_is_not_followed(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "secret.png")
    folder = tmp_path / "images"
    folder.mkdir()
    Image.new("RGB", (300, 200)).save(folder / "own.png")
    own = thumbnail(folder, "own.png")
    assert own.uri and max(own.width, own.height) == 128
    for name in ("../secret.png", str(tmp_path / "secret.png"), "absent.png", ""):
        assert thumbnail(folder, name).uri is None


def test_older_runs_stand_in_the_tables_and_are_named_as_without_predictions(small):
    make, folder = small
    make("OGKD", kept=False, accuracy=61.25)
    make("CoOp")
    page = Page(write(folder / "out", folder / "report.html"))
    assert "61.25" in page.text
    assert "OGKD/1" in page.text.partition("Runs without predictions")[2]


def test_a_page_over_older_runs_alone_speaks_of_no_intervals(small):
    make, folder = small
    make("OGKD", kept=False)
    page = Page(write(folder / "out", folder / "report.html"))
    assert "50.00" in page.text and "95 %" not in page.text.partition("What is missing")[2]


@pytest.mark.parametrize("name", ["results.json", "predictions.npz", "split.json"])
def test_a_corrupt_file_is_named_and_the_rest_is_shown(small, name):
    make, folder = small
    make("OGKD"), make("CoOp")
    (folder / "out" / "OGKD" / "1" / name).write_bytes(b"\x00[{")
    page = Page(
        write(folder / "out", folder / "report.html", methods=None if name == "results.json" else ["OGKD", "CoOp"])
    )
    assert f"OGKD/1/{name}" in page.text.partition("Could not be read")[2]
    assert "CoOp" in page.text


def test_unfinished_runs_are_named(small):
    make, folder = small
    make("OGKD")
    (folder / "out" / "begun").mkdir()
    (folder / "out" / "begun" / "config.yaml").write_text("SEED: 1\n")
    assert "begun, before its first saved epoch" in Page(write(folder / "out", folder / "report.html")).text


def test_seeds_that_were_tested_on_other_images_are_left_out_of_figures_with_a_note(small):
    make, folder = small
    make("OGKD", seed=1)
    images, labels, names = classes_and_labels(30)
    write_run(folder / "out" / "2", "few_shot", "OGKD", 2, random_predictions(images, labels, names, 1, 2))
    assert "seed 2 was tested on different images" in Page(write(folder / "out", folder / "report.html")).text


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["nowhere"], "no folder nowhere"),
        (["--recompute"], "usage"),
        ([], "Give a folder with results"),
        (["{out}", "--methods", "OGDK"], "OGKD"),
        (["{empty}"], "is finished"),
        (["{out}", "-o", "{empty}"], "cannot be written"),
    ],
    ids=["no folder", "no run to recompute", "nothing", "unknown method", "nothing finished", "a folder as page"],
)
def test_what_a_user_gets_wrong_is_one_sentence(small, capsys, words, sentence):
    make, folder = small
    make("OGKD")
    (folder / "empty").mkdir()
    places = {"out": folder / "out", "empty": folder / "empty"}
    try:
        code = run_program(lambda: report.main([word.format(**places) for word in words]))
    except SystemExit as ended:  # argparse's own
        code = ended.code
    assert code == 2
    error = capsys.readouterr().err
    assert sentence in error and "Traceback" not in error


def test_the_program_prints_where_the_page_lies_and_never_imports_pytorch(small):
    make, folder = small
    make("OGKD")
    program = (
        "import sys, report\n"
        f"report.main([{str(folder / 'out')!r}, '-o', {str(folder / 'r.html')!r}, '--title', 'Ours', '--no-images'])\n"
        "print([name for name in ('torch', 'open_clip', 'transformers', 'sklearn', 'pandas') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.splitlines()[-2:] == [str(folder / "r.html"), "[]"], done.stderr
    assert "<h1>Ours</h1>" in (folder / "r.html").read_text()


# Parts


def luminance(colour):
    """Relative luminance by WCAG 2."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_text_and_lines_have_the_contrast_that_accessibility_asks_for(scheme):
    of = {name: luminance(both[scheme]) for name, both in COLOURS.items()}

    def contrast(name):
        high, low = sorted((of[name], of["ground"]), reverse=True)
        return (high + 0.05) / (low + 0.05)

    assert min(contrast("ink"), contrast("muted")) >= 4.5
    assert min(contrast(name) for name in COLOURS if name.startswith("series")) >= 3


def test_a_figure_has_variables_where_it_has_colours_and_escapes_its_texts():
    with drawing():
        figure = canvas(200, 100)
        axes = place(figure, 20, 20, 150, 60)
        axes.plot([0, 1], [0, 1], color=COLOURS["series0"][0])
        axes.set_title('<b>&"$a$')
    svg = Drawing("one", "A line", "It rises.", figure).svg
    assert "var(--series0)" in svg and not re.search(r"#[0-9a-f]{6}", svg)
    assert '="var(' not in svg  # an attribute cannot hold a variable
    assert "&lt;b&gt;&amp;" in svg and "$a$" in svg


@given(st.lists(st.lists(st.floats(0.001, 99), min_size=1, max_size=6), min_size=1, max_size=3))
def test_training_curves_are_what_the_log_says_of_each_epoch_last(tmp_path_factory, trainings):
    folder = tmp_path_factory.mktemp("log")
    lines = [
        LINE.format(epoch=epoch, last=len(losses), loss=loss, acc=50)
        for losses in trainings
        for epoch, loss in enumerate(losses, 1)
    ]
    (folder / "log.txt").write_text(
        "\n".join(["epoch [x]", "=> result", *lines, "epoch [9/9] batch [1/1] loss nan (nan)"])
    )
    expected = {}
    for losses in trainings:
        expected.update({epoch: round(loss, 4) for epoch, loss in enumerate(losses, 1)})
    curves = training_curves(folder / "log.txt")
    assert curves["loss"] == pytest.approx(expected)
    assert set(curves) == {"loss", "acc", "sccm"}


def predictions_of(draw, classes=4):
    number = draw(st.integers(1, 40))
    labels = draw(st.lists(st.integers(0, classes - 1), min_size=number, max_size=number))
    logits = draw(
        st.lists(st.lists(st.integers(-4, 4), min_size=classes, max_size=classes), min_size=number, max_size=number)
    )
    names = tuple(f"class {i}" for i in range(classes))
    return Predictions(tuple(map(str, range(number))), np.array(labels), np.array(logits), names)


@given(st.data())
def test_the_costliest_confusions_are_those_of_a_count_by_hand(data):
    predictions = predictions_of(data.draw)
    costs = 1 - np.eye(4) * 1.0
    costs[0, 1] = 0.25
    counted = {}
    for label, predicted in zip(predictions.labels, predictions.predicted, strict=True):
        if label != predicted:
            counted[label, predicted] = counted.get((label, predicted), 0) + 1
    found = costliest(predictions, 1, costs, most=20)
    assert {(one.true, one.predicted): one.images for one in found} == {
        (f"class {i}", f"class {j}"): number for (i, j), number in counted.items()
    }
    weights = [one.images * one.cost for one in found]
    assert weights == sorted(weights, reverse=True)


@given(st.data())
def test_the_most_confident_mistakes_are_mistakes_the_surest_first(data):
    predictions = predictions_of(data.draw)
    found = confident_mistakes(predictions, None, most=5)
    wrong = np.flatnonzero(predictions.predicted != predictions.labels)
    assert len(found) == min(5, len(wrong))
    surest = sorted((100 * predictions.probabilities[row].max() for row in wrong), reverse=True)
    assert [one.confidence for one in found] == pytest.approx(surest[:5])
    assert all(one.true != one.predicted for one in found)


@pytest.mark.parametrize(("runs", "images"), [(1, 100), (200, 1000), (5000, 10_000)])
def test_intervals_have_the_usual_draws_or_fewer_where_there_is_much_to_draw(small, runs, images):
    make, folder = small
    make("OGKD", num_test=images)
    from ogkd.evaluation.collect import collect
    from ogkd.reports.variants import variants

    (run,) = collect(folder / "out")
    (variant,), _ = variants([run])
    draws = draws_for([Evaluation(variant, "few_shot", 16, [run], Notes(), str) for _ in range(runs)])
    assert FEWEST_DRAWS <= draws <= DRAWS
    assert (draws == DRAWS) == (runs == 1)


def test_recompute_still_works_from_the_same_program(small, capsys):
    make, _ = small
    run = make("OGKD")
    written = json.loads((run / "results.json").read_text())
    (run / "results.json").write_text(json.dumps({**written, "accuracy": 0.0}))
    report.main(["--recompute", str(run)])
    assert f"accuracy {written['accuracy']:.2f} %" in capsys.readouterr().out


def test_too_many_methods_for_a_figure_are_refused(small):
    make, folder = small
    make("OGKD")
    with pytest.raises(UserError, match="at most 6"):
        write(folder / "out", folder / "report.html", methods=["OGKD"] * 7)


def test_a_confusion_matrix_shows_the_shares_of_a_count_by_hand_in_the_order_of_the_classes_relations():
    images, labels, names = classes_and_labels(90, ("a", "b", "c"))
    predictions = random_predictions(images, labels, names, 0.5, 3)
    order = ("c", "a", "x", "b")
    svg = Drawing("one", "A matrix", "It counts.", confusion("CoOp", predictions, order)).svg
    texts = re.findall(r"<text[^>]*>([^<]*)</text>", svg)
    expected = []
    for true in "cab":
        of_class = predictions.predicted[predictions.labels == names.index(true)]
        expected += [f"{100 * np.mean(of_class == names.index(predicted)):.0f}" for predicted in "cab"]
    columns, cells = np.split([text for text in texts if re.fullmatch(r"\d+", text)], [3])
    assert columns.tolist() == ["1", "2", "3"]
    assert cells.tolist() == [text for text in expected if text != "0"]
    assert [text for text in texts if re.fullmatch(r"[abc] \d", text)] == ["c 1", "a 2", "b 3"]


def test_ones_own_images_are_found_below_their_own_folder(small):
    make, folder = small
    own = folder / "data" / "ultrasound"
    (own / "img").mkdir(parents=True)
    images, *_ = classes_and_labels()
    for name in images:
        Image.new("RGB", (64, 48), "white").save(own / name)
    config = {"DATASET": {"NAME": "ImageFolder", "FOLDER": "ultrasound", "ROOT": str(folder / "data")}, "TRAINER": {}}
    make("OGKD", dataset="ultrasound", config=config)
    page = Page(write(folder / "out", folder / "report.html"))
    assert {(one["width"], one["height"]) for one in page.all("img")} == {("64", "48")}


def test_headings_go_down_by_one_level_at_a_time(page):
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(below <= above + 1 for above, below in pairwise(levels))


def test_averages_over_data_sets_have_intervals_that_hold_the_data_sets_fixed(tmp_path):
    images, labels, names = classes_and_labels()
    runs = {}
    for number, dataset in enumerate(("one", "two")):
        for method in ("CoOp", "OGKD"):
            predictions = random_predictions(
                [f"{dataset}/{name}" for name in images], labels, names, 1 + number, number
            )
            write_run(tmp_path / "out" / dataset / method, "few_shot", method, 1, predictions, dataset=dataset)
            runs[dataset, method] = predictions
    page = Page(write(tmp_path / "out", tmp_path / "report.html"))
    of_sets = [bootstrap("accuracy", runs[dataset, "OGKD"]) for dataset in ("one", "two")]
    low, high = np.quantile(np.mean([one.samples for one in of_sets], axis=0), [0.025, 0.975])
    section = page.text.partition("Averages over data sets ")[2].partition("Averages over data sets")[2]
    assert f"{np.mean([one.value for one in of_sets]):.2f} {low:.1f} to {high:.1f}" in section


@pytest.mark.parametrize("file", sorted((ROOT / "ogkd" / "classes").glob("*.yaml")), ids=lambda file: file.stem)
def test_the_names_of_every_data_sets_classes_fit_into_the_figure_of_their_relations(file):
    figure = class_tree(read_geometry(file))
    with drawing():
        figure.canvas.draw()
        texts = [text for axes in figure.axes for text in axes.texts]
        boxes = [text.get_window_extent() for text in texts]
    assert len(texts) >= len(read_geometry(file).classnames)
    assert min(box.x0 for box in boxes) >= 0 and max(box.x1 for box in boxes) <= figure.bbox.x1
    assert not [
        (first.get_text(), second.get_text())
        for (first, box), (second, other) in combinations(zip(texts, boxes, strict=True), 2)
        if box.overlaps(other)
    ]
