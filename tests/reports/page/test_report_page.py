"""The report: what it says about runs, what it does not reveal, and how it treats files from others."""

import html
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from ogkd.cli import report
from ogkd.core import run_program
from ogkd.evaluation.predictions import Predictions
from ogkd.evaluation.statistics import DRAWS, bootstrap, combine
from ogkd.reports.page import write
from ogkd.reports.page.evidence import FEWEST_DRAWS, draws_for
from ogkd.reports.page.figures import GREY, PALETTE, Drawing, canvas, style
from ogkd.reports.page.images import thumbnail
from ogkd.reports.page.study import confident_mistakes, confusion
from ogkd.reports.page.training import training_curves
from tests.conftest import ROOT
from tests.report_runs import LINE, random_predictions, write_log, write_run

pytestmark = pytest.mark.slow

HOSTILE = '<script>alert("x")</script><img src=x onerror=alert(1)>'
IMAGES, NAMES = [f"img/{i:03}.png" for i in range(60)], ("cyst", "mass", "normal")


class Page(HTMLParser):
    """What a browser would see in a page: its elements and its text."""

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

    def section(self, name):
        """The source of the section with an id."""
        return re.search(rf'<section class="card" id="{name}.*?</section>', self.source, re.DOTALL)[0]

    @property
    def figures(self):
        return [attrs["aria-label"] for _, attrs in self.elements if attrs.get("role") == "img"]


@pytest.fixture(scope="module")
def page(page_file):
    return Page(page_file)


def predictions(skill=2, seed=1, images=IMAGES, names=NAMES):
    return random_predictions(images, [i % len(names) for i in range(len(images))], names, skill, seed)


@pytest.fixture
def small(tmp_path):
    """Make a method's few-shot run on images that are not available: small(method, seed, **of write_run) -> folder.
    small.page(...) writes a page over all runs made."""

    def make(method="OGKD", seed=1, stored=True, **changes):
        stored = predictions(seed=seed) if stored is True else stored or None
        return write_run(tmp_path / "out" / method / str(seed), "few_shot", method, seed, stored, **changes)

    def page(**options):
        return Page(write(tmp_path / "out", tmp_path / "report.html", **options))

    make.page, make.folder = page, tmp_path
    return make


# What it says


def test_tables_show_the_mean_over_seeds_with_its_interval_over_test_images(page, output):
    for kind, shots in {(kind, shots) for kind, shots, *_ in output[1]}:
        for method in ("ZeroShot", "CoOp", "OGKD"):
            seeds = [output[1][kind, shots, method, seed] for seed in (1, 2)]
            interval = bootstrap("accuracy", seeds)
            assert f"{np.mean([100 * one.correct.mean() for one in seeds]):.2f} ± " in page.text
            assert f"{interval.low:.1f} to {interval.high:.1f}" in page.text


def test_what_was_run_the_gain_over_zero_shot_and_the_most_frequent_class_are_on_the_page(page, output):
    for word in ("phantom", "Zero-shot", "CoOp", "OGKD", "PhantomCLIP", "python 3.11.7", "1, 4", "24 finished runs"):
        assert word in page.text
    accuracy = [
        np.mean([100 * output[1]["few_shot", 4, method, seed].correct.mean() for seed in (1, 2)])
        for method in ("ZeroShot", "CoOp", "OGKD")
    ]
    assert f"{max(accuracy) - accuracy[0]:+.1f}" in page.section("summary")
    labels = output[1]["few_shot", 4, "OGKD", 1].labels
    assert f"{100 * np.bincount(labels).max() / len(labels):.1f} % on all classes, 4 shots" in page.text


def test_confident_mistakes_are_shown_from_the_data_set(page, output):
    assert {"Test image of"} == {" ".join(one["alt"].split()[:3]) for one in page.all("img")}
    named = set(re.findall(r"[a-z_]+/\d+\.png", page.text))
    wrong = {
        image
        for (*_, seed), one in output[1].items()
        for image, right in zip(one.images, one.correct, strict=True)
        if seed == 1 and not right
    }
    assert named and named <= wrong


def test_the_page_loads_nothing_runs_nothing_and_reads_without_eyes(page):
    assert not page.all("script") and not page.all("iframe") and not page.all("object")
    assert all(one["src"].startswith("data:image/jpeg;base64,") and one["alt"] for one in page.all("img"))
    assert all(one["href"].startswith(("#", "https://arxiv.org/abs/")) for one in page.all("a"))
    elsewhere = set(re.findall(r"https?://[^\s\"'<)]+", page.source))
    assert all(one.startswith(("https://arxiv.org/abs/", "http://www.w3.org/")) for one in elsewhere)
    assert len(page.figures) == len(page.all("figure")) > 10 and min(map(len, page.figures)) > 20
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1 and levels.count(1) == 1 and all(below <= above + 1 for above, below in pairwise(levels))
    ids = [attrs["id"] for _, attrs in page.elements if "id" in attrs]
    assert len(ids) == len(set(ids))
    assert set(re.findall(r"url\(#([^)]+)\)", page.source) + re.findall(r'href="#([^"]+)"', page.source)) <= set(ids)


def test_the_relations_of_the_classes_are_a_list_in_lists(page):
    tree = re.search(r'<div class="tree">.*?</div>', page.source, re.DOTALL)[0]
    assert re.search(r"<span>mass</span>\s*<ul><li><span>smooth mass</span></li>", tree)


def test_methods_by_name_are_those_in_the_detailed_figures(small):
    for method in ("CoOp", "OGKD", "ZeroShot"):
        small(method)
    for methods, expected in ((None, {"OGKD", "Zero-shot"}), (["coop"], {"CoOp"})):
        matrices = [one for one in small.page(methods=methods).figures if one.startswith("Confusion")]
        assert {one.partition(".")[0].rpartition(" of ")[2] for one in matrices} >= expected
    assert len(matrices) == 1


def test_a_doubtful_result_is_never_the_best(small):
    """One answer for all images is right on 80 % here; with a second seed that is right on all, the mean is 90 %."""
    labels = np.array([0] * 48 + [1, 2] * 6)

    def of(answers):
        return Predictions(tuple(IMAGES), labels, np.eye(3)[answers] * 9, NAMES)

    small("TipAdapter", 1, of(np.zeros(60, int)))
    assert "all results are doubtful" in small.page().section("summary")
    small("TipAdapter", 2, of(labels)), small("CoOp", 1, of((labels + (np.arange(60) % 7 == 0)) % 3))
    page = small.page()
    assert "CoOp" in page.section("summary") and "Tip-Adapter" not in page.section("summary")
    assert "90.00 ± 10.00" in page.text and not re.search(r"Tip-Adapter</th>(<td.*?</td>)*<td class=", page.source)
    assert [one.partition(".")[0] for one in page.figures if "matrix" in one] == ["Confusion matrix of CoOp"]


def test_the_gain_over_zero_shot_is_of_the_same_images_alone(small):
    small("OGKD", stored=predictions(skill=6)), small("ZeroShot", stored=predictions(skill=1))
    assert re.search(r"\+\d+\.\d", small.page().section("summary"))
    shutil.rmtree(small.folder / "out/ZeroShot")
    small("ZeroShot", stored=predictions(skill=1, images=IMAGES[:30]))
    assert not re.search(r"\+\d+\.\d", small.page().section("summary"))


def test_the_lowest_calibration_error_is_the_best(small):
    small("OGKD", stored=predictions(skill=9)), small("CoOp", stored=predictions(skill=1))
    row = r"<th[^>]*>{}</th>(?:\s*<td.*?</td>)+"
    good, poor = (re.findall(row.format(name), small.page().source, re.S) for name in ("OGKD", "CoOp"))
    assert 'class="best' in "".join(good) and 'class="best' not in "".join(poor)


def test_several_numbers_of_shots_are_drawn_as_curves_with_bands(small):
    small("OGKD"), small("CoOp", shots=4)
    assert not [one for one in small.page().figures if one.startswith("Few-shot")]
    small("OGKD", 2, shots=4)
    page = small.page()
    assert "Bands" in page.text and "Few-shot: accuracy" in " ".join(page.figures)


OWN = {"DATASET": {"NAME": "ImageFolder", "FOLDER": "clips", "ROOT": ""}, "TRAINER": {}}


def test_patients_stand_beside_images_and_intervals_are_over_them(small):
    by_video = replace(predictions(), groups=np.arange(60) // 10)
    small("OGKD", stored=by_video, dataset="clips", config=OWN)
    page, interval = small.page(), bootstrap("accuracy", by_video)
    assert "60 images of 6 patients" in page.text and "95 % interval over test patients" in page.text
    assert f"{interval.low:.1f} to {interval.high:.1f}" in page.text
    assert "patients unknown" not in page.text


def test_it_is_said_of_own_images_that_their_patients_are_unknown_and_of_a_foreign_model_that_it_means_nothing(small):
    small("OGKD", dataset="clips", config=OWN)
    page = small.page()
    assert "clips: split by image, patients unknown" in page.section("summary")
    assert "its answers mean nothing" in page.section("summary")
    small("CoOp", backbone="BiomedCLIP")
    of_benchmark = Page(write(small.folder / "out" / "CoOp", small.folder / "second.html"))
    assert "patients unknown" not in of_benchmark.text and "mean nothing" not in of_benchmark.text


def test_loss_terms_are_explained(small):
    write_log(small("OGKD"), [2.0, 1.0])
    assert "sccm: mean squared distance" in small.page().text
    small("CoOp"), write_log(small("KgCoOp"), [2.0])
    assert "one epoch has points" in small.page().text


def test_transfer_runs_beside_others_have_tables_of_their_own(small):
    small("OGKD")
    small("CoOp", dataset="BUSBRA", source="BUSI", shots=4)
    page = small.page()
    assert "all classes, trained on busi" in page.section("ran")
    assert "busi -&gt; busbra, 4 shots" in page.section("transfer") and "CoOp" in page.section("transfer")


def test_several_folders_single_runs_and_backbones_make_one_page(small, tmp_path):
    runs = [small("OGKD"), small("CoOp", backbone="hf-hub:org/Other"), small("ZeroShot")]
    page = Page(write(runs[:2], tmp_path / "report.html"))
    assert "2 finished runs" in page.text and "Zero-shot" not in page.text.partition("Methods:")[2]
    assert "with PhantomCLIP" in page.text and "with Other" in page.text


def test_averages_over_data_sets_have_intervals_that_hold_the_data_sets_fixed(small):
    runs = {}
    for number, dataset in enumerate(("one", "two")):
        for method in ("CoOp", "OGKD"):
            runs[dataset, method] = predictions(1 + number, number, [f"{dataset}/{name}" for name in IMAGES])
            small(method, number, runs[dataset, method], dataset=dataset)
    of_sets = [bootstrap("accuracy", runs[dataset, "OGKD"]) for dataset in ("one", "two")]
    mean = combine(lambda *values: sum(values) / 2, *of_sets)
    averages = re.sub(r"<[^>]*>", " ", small.page().section("averages"))
    assert f"{mean.value:.2f} {mean.low:.1f} to {mean.high:.1f}" in " ".join(averages.split())


def test_ones_own_images_are_taken_from_their_own_folder_if_the_page_may_show_them(small, tmp_path):
    own = tmp_path / "data" / "ultrasound"
    (own / "img").mkdir(parents=True)
    for name in IMAGES:
        Image.new("RGB", (64, 48), "white").save(own / name)
    config = {"DATASET": {"NAME": "ImageFolder", "FOLDER": "ultrasound", "ROOT": str(tmp_path / "data")}, "TRAINER": {}}
    small("OGKD", dataset="ultrasound", config=config)
    assert {(one["width"], one["height"]) for one in small.page(images=True).all("img")} == {("64", "48")}
    unasked = small.page()
    assert not unasked.all("img") and "img/0" not in unasked.source and "may identify patients" in unasked.text


def test_plots_are_written_as_png_and_pdf_on_white_one_pair_per_figure(small, tmp_path):
    small("OGKD")
    page = small.page(plots=tmp_path / "plots")
    files = sorted((tmp_path / "plots").iterdir())
    assert len(files) == 2 * len(page.figures)
    assert {file.read_bytes()[:4] for file in files} == {b"%PDF", b"\x89PNG"}
    for file in files[1::2]:
        with Image.open(file) as image:
            assert min(image.size) > 300
            assert image.convert("RGB").getpixel((0, 0)) == (255, 255, 255)


# What it keeps to itself


def test_without_images_neither_an_image_nor_the_name_of_one_leaves(output, tmp_path):
    page = Page(write(output[0] / "few_shot" / "shots_4", tmp_path / "report.html", images=False))
    assert not page.all("img") and "data:image" not in page.source and "taken for" in page.text
    images = {name for one in output[1].values() for name in one.images}
    assert not [name for name in images if name in page.source or name.split("/")[-1] in page.source]


def test_without_images_what_could_not_be_read_is_not_quoted(small):
    small("CoOp")
    for run in (small("OGKD"), small("OGKD", 2, source="BUSI")):
        stored = dict(np.load(run / "predictions.npz"))
        np.savez(run / "predictions.npz", **{**stored, "labels": stored["labels"] + 7})
    assert "img/00" in small.page().source
    private = small.page(images=False).source
    assert str(small.folder) not in private + small.page().source
    assert {"OGKD/1", "OGKD/2"} == set(re.findall(r"(OGKD/\d)/predictions.npz: the file is corrupt", private))
    assert "img/0" not in private


# Foreign, old and broken files


def test_names_from_elsewhere_are_text_and_nothing_else(small):
    names = (HOSTILE, "</svg></style>" + HOSTILE, "mass")
    odd = "$x_1$ & \x07\ud800 'q'"
    run = small("OGKD", stored=predictions(names=names), dataset=HOSTILE, title=HOSTILE, versions={HOSTILE: HOSTILE},
                changed={HOSTILE: HOSTILE})  # fmt: skip
    small(HOSTILE.replace("/", ""), stored=predictions(names=names), dataset=HOSTILE, title=f'"{HOSTILE}')
    small("CoOp", dataset=odd.replace("\ud800", ""), backbone=HOSTILE)
    write_log(run, [1.0, 0.5])
    page = small.page(title=HOSTILE + odd)
    assert not page.all("script") and not page.all("img")
    assert not [attrs for _, attrs in page.elements if any(name.startswith("on") for name in attrs)]
    assert page.source.count("<svg") == page.source.count("</svg>") == len(page.figures)
    assert html.escape("<script>", quote=False) in page.source and "\x07" not in page.source


def test_an_image_path_that_leads_out_of_the_data_set_is_not_followed(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "secret.png")
    (folder := tmp_path / "images").mkdir()
    Image.new("RGB", (300, 200)).save(folder / "own.png")
    own = thumbnail(folder, "own.png")
    assert own.uri and max(own.width, own.height) == 128
    for name in ("../secret.png", str(tmp_path / "secret.png"), "absent.png", ""):
        assert thumbnail(folder, name).uri is None


def test_what_is_missing_is_named_and_the_rest_is_shown(small, tmp_path):
    small("ZeroShot", stored=False, accuracy=61.25)  # as older runs
    small("CoOp"), small("CoOp", 2, predictions(images=IMAGES[:30]))
    small("OGKD"), write_run(tmp_path / "out" / "copy", "few_shot", "OGKD", 1, predictions(0, 9))
    small("KgCoOp", subsample="new")  # without its run on the base classes
    (tmp_path / "out" / "begun").mkdir()
    (tmp_path / "out" / "begun" / "config.yaml").write_text("SEED: 1\n")
    page = small.page()
    assert "61.25" in page.text and "CoOp" in page.section("summary")
    for words in (
        "ZeroShot/1", "seed 2 was tested on different images", "different results, so seed 1 is left out",
        "KgCoOp/1 is in no table", "begun, before its first saved epoch",
    ):  # fmt: skip
        assert words in page.section("missing")
    assert "1 run is unfinished" in page.text


def test_without_predictions_there_is_no_interval(small):
    small("OGKD", stored=False)
    assert "95 %" not in small.page().text.partition("What is missing")[2]


@pytest.mark.parametrize("name", ["results.json", "predictions.npz"])
def test_a_corrupt_file_is_named_and_the_rest_is_shown(small, name):
    broken = small("OGKD")
    small("CoOp")
    (broken / name).write_bytes(b"\x00[{")
    page = small.page(methods=None if name == "results.json" else ["OGKD", "CoOp"])
    assert f"OGKD/1/{name}" in page.text.partition("Could not be read")[2] and "CoOp" in page.section("ran")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["nowhere"], "no folder"),
        (["--recompute"], "usage"),
        ([], "Give a folder with results"),
        (["{out}", "--methods", "OGDK"], "OGKD"),
        (["{out}", "--methods", *["OGKD"] * 7], "at most 6"),
        (["{empty}"], "is finished"),
        (["{out}", "-o", "{empty}"], "cannot be written"),
    ],
)
def test_what_a_user_gets_wrong_is_one_sentence(small, capsys, tmp_path, words, sentence):
    small("OGKD", stored=False)
    (tmp_path / "empty").mkdir()
    places = {"out": tmp_path / "out", "empty": tmp_path / "empty"}
    try:
        code = run_program(lambda: report.main([word.format(**places) for word in words]))
    except SystemExit as ended:  # argparse's own
        code = ended.code
    error = capsys.readouterr().err
    assert code == 2 and sentence in error and "Traceback" not in error


def test_the_program_prints_where_the_page_lies_and_never_imports_pytorch(small, tmp_path):
    small("OGKD", stored=False)
    page = tmp_path / "r.html"
    program = (
        f"import sys, report\nreport.main([{str(tmp_path / 'out')!r}, '-o', {str(page)!r}, '--title', 'Ours'])\n"
        "print([name for name in ('torch', 'open_clip', 'transformers', 'sklearn') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.splitlines()[-2:] == [str(page), "[]"], done.stderr
    assert "<h1>Ours</h1>" in page.read_text()


def test_recompute_writes_the_metrics_again(small, capsys):
    run = small("OGKD")
    expected = 100 * predictions(seed=1).correct.mean()
    results = run / "results.json"
    results.write_text(re.sub(r'"accuracy": [\d.]+', '"accuracy": 0.0', results.read_text()))
    report.main(["--recompute", str(run)])
    assert f"accuracy {expected:.2f} %" in capsys.readouterr().out


# Parts


def luminance(colour):
    """Relative luminance by WCAG 2."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def test_lines_have_the_contrast_that_accessibility_asks_for_on_light_and_on_dark_ground():
    style_sheet = (ROOT / "ogkd/reports/templates/page.css").read_text()
    grounds = re.findall(r"--card: (#[0-9a-f]{6})", style_sheet)
    assert len(grounds) == 2
    for ground in map(luminance, grounds):
        for colour in map(luminance, (*PALETTE, GREY)):
            assert (max(colour, ground) + 0.05) / (min(colour, ground) + 0.05) >= 3


def test_text_has_a_contrast_of_at_least_4_5_on_every_ground_of_its_scheme():
    style_sheet = (ROOT / "ogkd/reports/templates/page.css").read_text()
    schemes = [
        dict(re.findall(r"--(\w+): (#[0-9a-f]{3,6})", one)) for one in re.findall(r":root \{(.*?)\}", style_sheet, re.S)
    ]
    assert len(schemes) == 3  # light, dark, paper
    for colours in schemes:
        bright = {name: luminance(colour if len(colour) == 7 else "#ffffff") for name, colour in colours.items()}
        for text in ("ink", "muted", "link"):
            for ground in ("page", "card", "soft"):
                light, dark = sorted((bright[text], bright[ground]), reverse=True)
                assert (light + 0.05) / (dark + 0.05) >= 4.5, (text, ground)


def test_a_figure_escapes_its_texts_which_have_no_colour_of_their_own():
    with style():
        figure = canvas(200, 100)
        figure.add_subplot().set_title('<b>&"$a$')
    svg = Drawing("one", "A line", "It rises.", figure).svg
    assert "&lt;b&gt;&amp;" in svg and "$a$" in svg
    assert not re.search(r"<text[^>]*fill", svg)


@given(st.lists(st.lists(st.floats(0.001, 99), min_size=1, max_size=6), min_size=1, max_size=3))
def test_training_curves_are_what_the_log_says_of_each_epoch_last(tmp_path_factory, trainings):
    log, expected, lines = tmp_path_factory.mktemp("log") / "log.txt", {}, []
    for losses in trainings:
        for epoch, loss in enumerate(losses, 1):
            lines.append(LINE.format(epoch=epoch, last=len(losses), loss=loss, acc=50))
            expected[epoch] = round(loss, 4)
    log.write_text("\n".join(["epoch [x]", "=> result", *lines, "epoch [9/9] batch [1/1] loss nan (nan)"]))
    curves = training_curves(log)
    assert curves["loss"] == pytest.approx(expected) and set(curves) == {"loss", "acc", "sccm"}


@given(st.integers(1, 40), st.integers(0, 2**31))
def test_the_mistakes_shown_are_those_of_a_count_by_hand(images, seed):
    one = predictions(1, seed, list(map(str, range(images))), ("a", "b", "c", "d"))
    surest = confident_mistakes(one, most=5)
    assert not one.correct[surest].any()
    assert one.confidence[surest].tolist() == sorted(one.confidence[~one.correct], reverse=True)[:5]


def test_a_confusion_matrix_shows_the_shares_of_a_count_by_hand_in_the_order_of_the_classes_relations():
    one = predictions(0.5, 3, list(map(str, range(90))), ("a", "b", "c"))
    svg = Drawing("one", "A matrix", "It counts.", confusion("CoOp", one, ("c", "a", "x", "b"))).svg
    texts = re.findall(r"<text[^>]*>([^<]*)</text>", svg)
    shares = [
        f"{100 * np.mean(one.predicted[one.labels == 'abc'.index(i)] == 'abc'.index(j)):.0f}"
        for i in "cab"
        for j in "cab"
    ]
    assert [text for text in texts if text.isdigit()] == [share for share in shares if share != "0"]
    assert [text for text in texts if text in "abc"] == ["c", "a", "b"] * 2  # columns, rows


@pytest.mark.parametrize(("runs", "images"), [(1, 100), (200, 1000), (5000, 10_000)])
def test_intervals_have_the_usual_draws_or_fewer_where_there_is_much_to_draw(small, runs, images):
    from ogkd.evaluation.collect import read_run

    run = read_run(small("OGKD", stored=False, num_test=images))
    draws = draws_for([run] * runs)
    assert FEWEST_DRAWS <= draws <= DRAWS and (draws == DRAWS) == (runs == 1)
