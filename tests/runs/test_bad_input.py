"""What a user can get wrong: one sentence that says how to fix it, exit code 2, no traceback.

The tables have a row per mistake: what is given | a part of the sentence.
"""

import io
import json
import os
import shlex
import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from ogkd.core.torchtools import load_checkpoint
from tests.conftest import ROOT
from tests.support.forked import HUB, python


def refused(done: subprocess.CompletedProcess, *words: str) -> None:
    """Check that a command ended with a user's error, with these words in its sentence."""
    assert done.returncode == 2, done.stdout + done.stderr
    print(done.stderr)
    assert "Traceback" not in done.stdout + done.stderr
    (sentence,) = [line for line in done.stderr.splitlines() if "error: " in line]
    for word in " & ".join(words).split(" & "):
        assert word in sentence


def table(text: str) -> list:
    """The rows of a table: the parts left and right of the bar on each line."""
    rows = [line.rsplit(" | ", 1) for line in text.strip().splitlines() if not line.startswith("#")]
    return [pytest.param(left.strip(), right.strip(), id=left.strip()[:60]) for left, right in rows]


@pytest.fixture(scope="module")
def world(tmp_path_factory, data, cache):
    """The input of the commands: a finished run, the data, folders of images and empty folders."""
    from ogkd.cli.train import main
    from ogkd.predict.export import export

    place = tmp_path_factory.mktemp("world")
    (place / "empty").mkdir()
    (place / "file.txt").write_text("some words")
    images = place / "scans"
    for name in ("mass", "cyst"):
        (images / name).mkdir(parents=True)
        for number in range(6):
            pixels = np.random.default_rng([number, len(name)]).integers(0, 255, (40, 40, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(images / name / f"p{number // 2}_{number}.png")
    (place / "alone" / "mass").mkdir(parents=True)
    shutil.copy(images / "mass" / "p0_0.png", place / "alone" / "mass")
    words = ["--root", str(data), "--seed", "1", "--trainer", "CoOp", "--backbone", "PhantomCLIP",
             "--dataset-config-file", str(ROOT / "configs/datasets/phantom.yaml"), "FEATURES.CACHE_DIR", str(cache),
             "DATALOADER.NUM_WORKERS", "0", "DATASET.NUM_SHOTS", "2", "OPTIM.MAX_EPOCH", "1"]  # fmt: skip
    main(["--output-dir", str(place / "run"), *words])
    export(place / "run", place / "prompt")
    shutil.copytree(ROOT / "ogkd" / "models" / "phantomclip", place / "model")
    shutil.copytree(data / "Phantom", place / "copy" / "Phantom")
    (place / "prompts").mkdir()
    shutil.copy(ROOT / "ogkd" / "prompts" / "Phantom.json", place / "prompts")
    shutil.copy(ROOT / "ogkd" / "classes" / "Phantom.yaml", place / "geometry.yaml")
    return SimpleNamespace(place=place, run=place / "run", data=data, words=words, images=images)


@pytest.fixture
def ended(world, command, tmp_path):
    """Run a line of words with {place}, {run}, {data}, {tmp} replaced; data and results are those of the world."""

    def run(line: str, **environment: str) -> subprocess.CompletedProcess:
        places = {"place": world.place, "run": world.run, "data": world.data, "tmp": tmp_path, "images": world.images}
        words = [word.format(**places) if "{" in word else word for word in shlex.split(line)]
        default = {"DATA": str(world.data), "OUTPUT": str(tmp_path / "output"), "BACKBONE": "PhantomCLIP"}
        return command(words, env={**default, "HF_HUB_OFFLINE": "1", **environment})

    return run


# Values of the configuration

VALUES = """
OPTIM.LR fast | OPTIM.LR & a number
OPTIM.LR 0 | OPTIM.LR & greater than 0 and
OPTIM.LR 1e999 | OPTIM.LR & greater than 0 and
OPTIM.LR ((((((((((((((((((((( | must be a number
OPTIM.MAX_EPOCH 0 | OPTIM.MAX_EPOCH & at least 1 and
OPTIM.MAX_EPOCH 100000000000000000000 | OPTIM.MAX_EPOCH is 100000000000000000000, but it must be
OPTIM.MAX_EPOCH True | OPTIM.MAX_EPOCH & a whole number
OPTIM.NAME adamm | OPTIM.NAME & adam, amsgrad, sgd, rmsprop
OPTIM.STEPSIZE 5 | OPTIM.STEPSIZE & a list, such as
OPTIM.STEPSIZE "('a',)" | OPTIM.STEPSIZE & a list of epochs
OPTIM.ADAM_BETA1 1.0 | OPTIM.ADAM_BETA1 & at least 0 and
OPTIM.SGD_NESTEROV yes | OPTIM.SGD_NESTEROV & True or False
OPTIM.SGD_NESTEROV True OPTIM.MOMENTUM 0.0 | OPTIM.SGD_NESTEROV needs an OPTIM.MOMENTUM greater than 0
OPTIM.NEW_LAYERS (3,) | OPTIM.NEW_LAYERS & a list of names
OPTIM 3 | OPTIM is '3' & section
OPTIM.LR | KEY VALUE pairs & 'OPTIM.LR'
OPTIM.LRR 0.1 | Unknown configuration key 'OPTIM.LRR' from the command line; did you mean OPTIM.LR?
. 0.1 | Unknown configuration key '.'
SEED 18446744073709551616 | SEED & at most 9,223,372,036,854,775,807
INPUT.SIZE (224,) | INPUT.SIZE & a height and a
INPUT.SIZE '(64, 64)' | INPUT.SIZE is (64, 64), & 160 x 160
INPUT.INTERPOLATION cubic | INPUT.INTERPOLATION & empty or bilinear, bicubic
INPUT.TRANSFORMS "('flip',)" | INPUT.TRANSFORMS & a list of names
INPUT.NO_TRANSFORM True | INPUT.NO_TRANSFORM leaves images that no model takes
INPUT.PIXEL_STD '[0, 0, 0]' | INPUT.PIXEL_STD & empty or a list
INPUT.RRCROP_SCALE '(0.8, 0.2)' | INPUT.RRCROP_SCALE & two shares
INPUT.GB_K 20 | INPUT.GB_K & odd and at least
DATASET.NUM_SHOTS 0 | DATASET.NUM_SHOTS & 1 to 100,000, or
DATASET.SUBSAMPLE_CLASSES novel | DATASET.SUBSAMPLE_CLASSES & all, base or new
DATASET.NAME Phantomm | There is no 'Phantomm' (did you mean 'Phantom'?)
DATALOADER.NUM_WORKERS 5000 | DATALOADER.NUM_WORKERS & at least 0 and
DATALOADER.K_TRANSFORMS 2 | DATALOADER.K_TRANSFORMS is 2, but CoOp decides itself
DATALOADER.TRAIN_X.SAMPLER Random | There is no sampler 'Random'
FEATURES.CACHE_DIR {place}/file.txt | file.txt
TEST.FINAL_MODEL best | TEST.FINAL_MODEL & last_step or best_val
TEST.EVALUATOR Classify | There is no 'Classify' (did you mean 'Classification'?)
TRAINER.COOP.N_CTX 5 | CTX_INIT 'a photo of a' has 4 tokens but N_CTX is 5
TRAINER.COOP.CLASS_TOKEN_POSITION last | CLASS_TOKEN_POSITION & end, middle or front
TRAINER.COOP.CSC maybe | TRAINER.COOP.CSC & True or False
TRAINER.OGKD.GAMA 0.5 | from the command line; did you mean TRAINER.OGKD.GAMMA?
TRAINER.OGKD.GAMMA 1.5 | GAMMA & at least 0 and
TRAINER.OGKD.GRAPH file:{place}/none.csv | none.csv
TRAINER.OGKD.PROMPT_BANK {place}/empty | Phantom.json
TRAINER.BIOMEDCOOP.LAMBDA_KDSP -0.5 | LAMBDA_KDSP & at least 0
TRAINER.KGCOOP.TEMPLATE 'a photo' | The template 'a photo' has no {{}} for the class name.
TRAINER.PROGRAD.T 0.0 | T & greater than 0
TRAINER.MAPLE.PREC fp8 | PREC & amp or fp32
TRAINER.TIPADAPTER.MAX_ALPHA 0.0 | MAX_ALPHA & greater than 0.1
TRAINER.CLIPADAPTER.RATIO 1.1 | RATIO & at least 0 and
TRAINER.LINEARPROBE.C -1.0 | C & at least 0
TRAINER.LPPLUSPLUS.ALPHA_EVERY 0 | ALPHA_EVERY & at least 1
TRAINER.ZEROSHOT.TEMPLATE finding | The template 'finding' has no {{}} for the class name.
"""


@pytest.mark.parametrize(("pairs", "part"), table(VALUES))
def test_a_value(ended, pairs, part):
    from dassl.engine import TRAINER_REGISTRY
    from ogkd.runs.registry import register_everything

    register_everything()
    names = {name.upper(): name for name in TRAINER_REGISTRY.registered_names()}
    method = names[pairs.split(".")[1]] if pairs.startswith("TRAINER.") else "CoOp"
    done = ended(f"scripts/run.py {method} few_shot phantom 2 1 OPTIM.MAX_EPOCH 1 DATALOADER.NUM_WORKERS 0 {pairs}")
    refused(done, part.replace("{{", "{").replace("}}", "}"))


# Words of the command line

TRAIN = "train.py --root {data} --backbone PhantomCLIP --output-dir {tmp}/out"
PHANTOM = "--dataset-config-file configs/datasets/phantom.yaml"
COMMANDS = f"""
train.py --seed one | argument --seed: invalid int value: 'one'
train.py | Give --trainer NAME; there are
train.py --trainer CoOp --output-dir {{tmp}}/out | Give the run a data set
{TRAIN} --trainer CoOp {PHANTOM} OUTPUT_DIR '' | Give the run a folder: --output-dir FOLDER.
{TRAIN} --trainer CoOpp {PHANTOM} | CoOpp
{TRAIN} --trainer CoOp --dataset-config-file nosuch.yaml | There is no configuration file
{TRAIN} --trainer CoOp --dataset-config-file configs | cannot be read (Is a directory)
{TRAIN} --trainer CoOp {PHANTOM} --transforms flip | INPUT.TRANSFORMS is ('flip',)
{TRAIN} --trainer CoOp {PHANTOM} --backbone nosuch | There is no model or folder "nosuch"
{TRAIN} --trainer CoOp {PHANTOM} --backbone {{place}}/empty | has no configuration
{TRAIN} --trainer CoOp {PHANTOM} --eval-only --model-dir {{place}}/nosuch | There is no checkpoint in
{TRAIN} --trainer CoOp {PHANTOM} --eval-only --model-dir {{run}} --load-epoch 7 | There is no checkpoint of epoch 7
{TRAIN} --trainer KgCoOp {PHANTOM} --eval-only --model-dir {{run}} | is a checkpoint of CoOp, not of KgCoOp
{TRAIN} --trainer CoOp {PHANTOM} --eval-only DATASET.TEST_ON phantom TEST.SPLIT val | leave out TEST.SPLIT
scripts/run.py OGKD base2new nosuchset 1 | There is no data set 'nosuchset'
scripts/run.py OGKD few_shot phantom sixteen 1 | SHOTS must be a whole number or all, not 'sixteen'.
scripts/run.py OGKD base2new phantom one | SEED must be a whole number or a range such as 1-20, not 'one'.
scripts/run.py OGKD few_shot phantom 0 1 | SHOTS must be at least 1, not 0.
scripts/run.py OGKD few_shot phantom 16 | Give DATASET SHOTS SEED
scripts/run.py OGKD transfer phantom nosuch 1 1 | There is no data set 'nosuch'
scripts/compare.py nosuchset | There is no data set 'nosuchset'
scripts/compare.py phantom --seeds x | --seeds must be a whole number or a range such as 1-20, not 'x'.
scripts/compare.py phantom --seeds 20-1 | --seeds 20-1 is no range
scripts/compare.py phantom --metric nosuch | nosuch
scripts/compare.py phantom -- OPTIM.LRR 1 | Unknown configuration key 'OPTIM.LRR'
scripts/reproduce.py zero | invalid choice: 'zero'
scripts/reproduce.py base2new --datasets nosuchset | There is no data set 'nosuchset'
scripts/reproduce.py base2new --seeds x | --seeds must be a whole number
scripts/ablation.py phantom 1 TRAINER.OGKD.ALFA 2 | Unknown configuration key 'TRAINER.OGKD.ALFA'
scripts/transfer.py busi-buid | 'busi-buid' is not a route: give SOURCE:TARGET
scripts/export_prompt.py {{place}}/empty {{tmp}}/out | is neither a run's folder
scripts/export_prompt.py {{run}} {{run}} | is a run's folder: export to a different folder.
scripts/interpret_prompt.py {{run}} --epoch 9 | There is no checkpoint of epoch 9
scripts/split.py {{images}} --patients {{place}}/none.csv | none.csv
scripts/check_data.py {{place}}/nosuch | nosuch
scripts/download.py nosuchset | nosuchset
scripts/download.py phantom | Phantom is not downloaded
scripts/download.py btmri --from {{place}}/nosuch --root {{tmp}} | nosuch
scripts/check_prompts.py Nosuch | Nosuch.json
scripts/check_prompts.py --folder {{place}}/empty | There are no prompts in
scripts/check_prompts.py Phantom --classes {{place}}/none.json | none.json
predict.py {{run}} {{images}} --batch -1 | --batch must be a number of images, 1 or more, not -1.
report.py | Give a folder with results
report.py {{place}}/nosuch | There is no folder
report.py {{place}}/empty -o {{tmp}}/page.html | No run below
report.py --recompute {{place}}/empty | is not a finished run
parse_test_res.py {{place}}/nosuch --table few_shot | There is no folder
parse_test_res.py {{place}} --table base2new | No finished base2new run below
parse_test_res.py {{place}} --claims NoMethod | NoMethod
ogkd.phantom.dataset nosuch --root {{tmp}} | There is no embedded data set 'nosuch'
ogkd.phantom.dataset --seed 3 --root {{data}} | has the images of seed 0, not 3
"""


@pytest.mark.parametrize(("line", "part"), table(COMMANDS))
def test_a_command_line(ended, line, part):
    refused(ended(line), part)


# Damaged files

NAN = float("nan")
PREDICT = "predict.py {run} {images}"
TRAIN = f"train.py --root {{data}} --backbone PhantomCLIP --output-dir {{tmp}}/out --trainer OGKD {PHANTOM} --seed 1 "
TEST = TRAIN.replace("OGKD", "CoOp") + "--eval-only --model-dir {run}"
WITH_MODEL = (
    TRAIN.replace("PhantomCLIP", "{place}/model") + "DATALOADER.NUM_WORKERS 0 FEATURES.CACHE_DIR '' DATASET.NUM_SHOTS 1"
)
CONFIGURED = TRAIN + "--config-file {place}/method.yaml"
BANKED = TRAIN + "TRAINER.OGKD.PROMPT_BANK {place}/prompts DATASET.NUM_SHOTS 1"
SHAPED = TRAIN + "TRAINER.OGKD.GRAPH geometry:{place}/geometry.yaml DATASET.NUM_SHOTS 1"
GRAPHED = TRAIN + "TRAINER.OGKD.GRAPH file:{place}/graph.csv DATASET.NUM_SHOTS 1"
COPIED = TRAIN.replace("{data}", "{place}/copy")
IMPORT = "scripts/import_prompts.py {place}/bank.py --name x --folder {tmp}"
EXPORTED = "predict.py {place}/prompt {images}"
TABLE = "parse_test_res.py {run} --table few_shot"
RECOMPUTE = "report.py --recompute {run}"
RESULTS, CONFIG, SPLIT = "run/results.json", "run/config.yaml", "run/split.json"
NPZ, CHECKPOINT = "run/predictions.npz", "run/prompt_learner/model.pth.tar-1"
MODEL, TEXT, WEIGHTS = "model/open_clip_config.json", "model/config.json", "model/open_clip_model.safetensors"
BANK, DATA_SPLIT, PROMPT = "prompts/Phantom.json", "copy/Phantom/split_Phantom.json", "prompt/config.json"


class Changed(dict):
    """Entries of a JSON file, by dotted names, that are changed; what is `GONE` is removed."""


GONE = object()


def saved(**changes: object) -> bytes:
    """A checkpoint of the world's run, changed; what is GONE is left out."""
    state = {"state_dict": {"ctx": torch.zeros(4, 128)}, "epoch": 1, "optimizer": None, "scheduler": None, "meta": {}}
    buffer = io.BytesIO()
    torch.save({name: value for name, value in (state | changes).items() if value is not GONE}, buffer)
    return buffer.getvalue()


def arrays(**changes: object) -> bytes:
    """A file of predictions, changed."""
    held = {"images": ["a.png"], "labels": [0], "logits": [[1.0, 0.0]], "classnames": ["a", "b"]} | changes
    buffer = io.BytesIO()
    np.savez(buffer, **{name: np.array(value) for name, value in held.items() if value is not GONE})
    return buffer.getvalue()


def nested(depth: int) -> str:
    return "[" * depth + "]" * depth


DAMAGED = [
    # the file, what it holds instead, the command, a part of the sentence
    (RESULTS, "{", TEST.replace("{tmp}/out", "{run}"), "results.json is corrupt"),
    (RESULTS, b"\xff\xfe{\x00}\x00", PREDICT, "results.json is corrupt ('utf-8' codec can't decode"),
    (RESULTS, nested(100_000), PREDICT, "it is nested too deeply"),
    (RESULTS, Changed(accuracy=NAN), PREDICT, "it holds NaN"),
    (RESULTS, Changed(accuracy="50"), PREDICT, "its accuracy is not a finite number"),
    (RESULTS, Changed(method=GONE), "scripts/export_prompt.py {run} {tmp}/x", "it has no method"),
    (RESULTS, "{", TABLE, "No run below"),
    (CONFIG, "", PREDICT, "config.yaml is corrupt (it has no TRAINER)"),
    (CONFIG, b"\x00\x01\x02", PREDICT, "config.yaml is not valid YAML"),
    (CONFIG, "TRAINER: 3", PREDICT, "its TRAINER is not an object"),
    (CONFIG, "MODEL: {BACKBONE: 1}", "scripts/interpret_prompt.py {run}", "config.yaml is corrupt"),
    (SPLIT, "{}", PREDICT, "split.json is corrupt (it has no train)"),
    (SPLIT, '{"train": [[1, 2]], "val": []}', PREDICT, "its train[0] is not [image, label, class name]"),
    (SPLIT, "[", PREDICT, "split.json is corrupt"),
    (NPZ, arrays(logits=[[NAN, 0.0]]), RECOMPUTE, "are not finite"),
    (CHECKPOINT, saved()[:500], TEST, "model.pth.tar-1 is damaged"),
    (CHECKPOINT, saved(state_dict=GONE), TEST, "it has no state_dict"),
    (CHECKPOINT, saved(state_dict={"ctx": 1}), TEST, "its state_dict is not a dict of tensors by name"),
    (CHECKPOINT, saved(meta={"backbone": "0"}), TEST, "was trained with different weights"),
    (CHECKPOINT, saved(state_dict={"ctx": torch.zeros(4, 7)}), "scripts/interpret_prompt.py {run}", "have 7 numbers"),
    ("method.yaml", "OPTIM: [", CONFIGURED, "method.yaml is not valid YAML (line 1"),
    ("method.yaml", "- OPTIM", CONFIGURED, "method.yaml is not a configuration: it must be a YAML mapping"),
    ("method.yaml", "OPTIM: 3", CONFIGURED, "OPTIM is 3 in"),
    ("method.yaml", "OPTIM: {LR: high}", CONFIGURED, "method.yaml, but it must be a number."),
    ("method.yaml", "DATASET: {NAME: 2024-01-01}", CONFIGURED, "but it must be text: put it in quotes."),
    ("method.yaml", "OPTIM: &a {LR: *a}", CONFIGURED, "method.yaml is nested too deeply or contains itself"),
    ("method.yaml", "_BASE_: 3", CONFIGURED, "has 3 as _BASE_, but it must be the path of another configuration."),
    ("method.yaml", "_BASE_: method.yaml", CONFIGURED, "method.yaml is based on itself"),
    ("method.yaml", "_BASE_: none.yaml", CONFIGURED, "There is no configuration file"),
    (MODEL, "", WITH_MODEL, "open_clip_config.json is not readable JSON"),
    (MODEL, Changed({"model_cfg.vision_cfg": 3}), WITH_MODEL, "its model_cfg.vision_cfg is not an object"),
    (MODEL, Changed({"model_cfg.vision_cfg.image_size": 10**9}), WITH_MODEL, "image_size is not a whole number"),
    (MODEL, Changed({"preprocess_cfg.std": [0, 0, 0]}), WITH_MODEL, "preprocess_cfg.std is not a list of 3 numbers"),
    (TEXT, Changed(num_hidden_layers=10**9), WITH_MODEL, "its num_hidden_layers is not a whole number from 1 to 1,000"),
    (WEIGHTS, b"\xff" * 64, WITH_MODEL, "open_clip_model.safetensors is damaged"),
    (BANK, "{", BANKED, "Phantom.json is not valid JSON"),
    (BANK, Changed({"simple cyst": ["a scan"]}), BANKED, "every class needs the same number"),
    ("geometry.yaml", "tree: {a: , b: }\nsource: x", SHAPED, "has no class"),
    ("graph.csv", ",a,b\na,1,0\nb,0,1\n", GRAPHED, "has no class"),
    (DATA_SPLIT, "{", COPIED, "it is no JSON"),
    (DATA_SPLIT, Changed({"test": [["a.png", 0, "x"]]}), COPIED, "calls label 0 'x'"),
    (DATA_SPLIT, Changed({"test": [["a.png", 0, "smooth mass"]]}), COPIED, "are missing (the first is"),
    ("prompt/prompt.safetensors", b"", EXPORTED, "prompt.safetensors cannot be read"),
    (PROMPT, Changed(kind=3), EXPORTED, "its kind is not trained prompt"),
    (PROMPT, Changed(classes=["a"]), EXPORTED, "classes and training_images differ in length"),
    (PROMPT, Changed(options={"N_CTX": "four"}), EXPORTED, "TRAINER.COOP.N_CTX is 'four' in"),
    (PROMPT, Changed({"backbone.fingerprint": "0"}), EXPORTED, "was trained with weights of"),
    ("bank.py", "BIOMEDCOOP_TEMPLATES = f()", IMPORT,
     "is not a plain literal, and code is not executed here"),
    ("patients.csv", "name,who\n", "scripts/split.py {images} --patients {place}/patients.csv", "patients.csv"),
]  # fmt: skip


def spoiled(path: Path, content: object) -> bytes:
    """The bytes of a damaged file."""
    if isinstance(content, Changed):
        whole = json.loads(path.read_text())
        for name, value in content.items():
            node, (*above, last) = whole, name.split(".")
            for section in above:
                node = node[section]
            if value is GONE:
                del node[last]
            else:
                node[last] = value
        content = json.dumps(whole)
    return content.encode() if isinstance(content, str) else content


@pytest.mark.parametrize(
    ("file", "content", "line", "part"),
    [pytest.param(*row, id=f"{row[0]}: {str(row[1])[:30]}"[:60]) for row in DAMAGED],
)
def test_a_damaged_file(world, ended, file, content, line, part):
    path = world.place / file
    before = path.read_bytes() if path.is_file() else None
    path.write_bytes(spoiled(path, content))
    try:
        refused(ended(line), part)
    finally:
        path.unlink() if before is None else path.write_bytes(before)


def test_a_checkpoint_whose_name_has_no_epoch_is_none(world, ended, tmp_path):
    (tmp_path / "prompt_learner").mkdir()
    (tmp_path / "prompt_learner" / "model.pth.tar-x9").write_bytes(saved())
    refused(ended(TEST.replace("{run}", "{tmp}")), "There is no checkpoint in")


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"optimizer": {"state": {}, "param_groups": []}}, "The optimizer in"),
        ({"optimizer": {"state": {}, "param_groups": [{"lr": "fast", "params": [0]}]}}, "The optimizer in"),
        ({"optimizer": {}}, "The optimizer in"),
        ({"scheduler": {"last_epoch": "x", "successor": {}}}, "The scheduler in"),
        ({"scheduler": {}}, "The scheduler in"),
        ({"state_dict": {"ctx": torch.zeros(4, 7)}}, "The state_dict in"),
        ({"state_dict": {"other": torch.zeros(4, 128)}}, "The state_dict in"),
    ],
    ids=str,
)
def test_a_garbled_checkpoint_is_not_resumed(ended, tmp_path, changes, part):
    folder = tmp_path / "out" / "prompt_learner"
    folder.mkdir(parents=True)
    (folder / "model.pth.tar-1").write_bytes(saved(**changes))
    done = ended(TRAIN.replace("OGKD", "CoOp") + "DATASET.NUM_SHOTS 1 OPTIM.MAX_EPOCH 2 DATALOADER.NUM_WORKERS 0")
    refused(done, part, "model.pth.tar-1", "delete that file")


# Single cases


@pytest.fixture
def script(command, data, cache, tmp_path):
    """Run scripts/run.py with DATA, OUTPUT and a short training."""

    def run(*words: str, **environment: str) -> subprocess.CompletedProcess:
        places = {"DATA": str(data), "OUTPUT": str(tmp_path / "output"), **environment}
        short = ["FEATURES.CACHE_DIR", str(cache), "OPTIM.MAX_EPOCH", "1", "DATALOADER.NUM_WORKERS", "0"]
        return command(["scripts/run.py", *words, *short], env=places)

    return run


def test_a_data_set_that_is_not_there_names_its_folder_and_the_download(script, tmp_path):
    done = script("OGKD", "base2new", "btmri", "1", DATA=str(tmp_path), BACKBONE="PhantomCLIP")
    refused(done, str(tmp_path), "scripts/download.py btmri")


@pytest.mark.slow
def test_weights_that_are_not_there_name_the_download(data, tmp_path):
    places = {"HF_HOME": str(tmp_path), "DATA": str(data), "OUTPUT": str(tmp_path / "output")}
    env = {**os.environ, "BACKBONE": "BiomedCLIP", "HF_HUB_OFFLINE": "1", **places}
    done = python(["scripts/run.py", "OGKD", "base2new", "phantom", "1"], env=env, fresh=HUB)
    refused(done, "BiomedCLIP", "scripts/download.py weights")


@pytest.mark.slow
def test_a_class_without_prompts_names_the_class_and_the_file(script, data, tmp_path):
    folder = tmp_path / "Phantom"
    shutil.copytree(data / "Phantom", folder)
    split = folder / "split_Phantom.json"
    split.write_text(split.read_text().replace('"smooth mass"', '"wrinkled mass"'))
    done = script("OGKD", "base2new", "phantom", "1", DATA=str(tmp_path))
    refused(done, "wrinkled mass", "Phantom.json", "templates")
    done = script("OGKD", "base2new", "phantom", "1", "TRAINER.OGKD.PROMPTS", "templates", DATA=str(tmp_path))
    assert done.returncode == 0, done.stdout + done.stderr


def test_no_space_left_loses_nothing_that_was_saved(command, arguments, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=128k", "tmpfs", str(disk)], capture_output=True).returncode:
        pytest.skip("mounting a small disk needs privileges")
    try:
        (disk / "ballast").write_bytes(bytes(100_000))
        words = ["train.py", *arguments("CoOp", "OPTIM.MAX_EPOCH", "200", output=disk / "run")]
        refused(command(words), "No space left")
        saved = list((disk / "run" / "prompt_learner").glob("model.pth.tar-*"))
        assert saved
        assert all(load_checkpoint(str(path))["epoch"] > 0 for path in saved)
    finally:
        subprocess.run(["umount", str(disk)], check=True)
