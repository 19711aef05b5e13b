"""Files written for CoOp's code base work in plugins/ as they are."""

import json
import sys
from pathlib import Path

import pytest
import yaml

from dassl.data.datasets import DATASET_REGISTRY
from dassl.engine import TRAINER_REGISTRY
from ogkd.cli import train
from ogkd.core import UserError
from ogkd.evaluation.predictions import Predictions
from ogkd.runs import registry
from ogkd.runs.config import build_config, resolve
from ogkd.runs.execute import class_names
from ogkd.runs.notes import notes
from ogkd.runs.plugins import Plugins
from ogkd.runs.spec import RunSpec
from tests import toy_trainer

TRAINER = """from dassl.engine import TRAINER_REGISTRY, TrainerX


@TRAINER_REGISTRY.register()
class {}(TrainerX):
    pass
"""

COOP = f'''{Path(toy_trainer.__file__).read_text()}

@TRAINER_REGISTRY.register()
class CoOp(ToyCoOp):
    """Has the name of an existing method, and reads keys that CoOp's train.py creates."""

    def check_cfg(self, cfg):
        assert cfg.TRAINER.COOP.PREC in ["fp16", "fp32", "amp"]
        assert cfg.LOSS.NAME == "ce"
'''.replace("class ToyCoOp", "class PluggedCoOp").replace("(ToyCoOp)", "(PluggedCoOp)")

DATASET = '''
import os
import pickle

from dassl.data.datasets import DATASET_REGISTRY, DatasetBase, Datum
from dassl.utils import mkdir_if_missing, read_json

from .names import FOLDER


@DATASET_REGISTRY.register()
class Caltech(DatasetBase):
    """Like CoOp's data sets: only Dassl's attributes, and shots stored in a pickle."""

    dataset_dir = FOLDER

    def __init__(self, cfg):
        root = os.path.abspath(os.path.expanduser(cfg.DATASET.ROOT))
        self.dataset_dir = os.path.join(root, self.dataset_dir)
        split = read_json(os.path.join(self.dataset_dir, "split_Phantom.json"))
        parts = [
            [Datum(os.path.join(self.dataset_dir, "Phantom", p), label=int(y), classname=c) for p, y, c in split[k]]
            for k in ("train", "val", "test")
        ]
        train, val, test = parts
        shots = cfg.DATASET.NUM_SHOTS
        kept = os.path.join(cfg.OUTPUT_DIR, f"shot_{shots}-seed_{cfg.SEED}.pkl")
        mkdir_if_missing(cfg.OUTPUT_DIR)
        if os.path.exists(kept):
            with open(kept, "rb") as file:
                train = pickle.load(file)["train"]
        else:
            train = self.generate_fewshot_dataset(train, num_shots=shots)
            with open(kept, "wb") as file:
                pickle.dump({"train": train}, file)
        super().__init__(train_x=train, val=val, test=test)
'''


@pytest.fixture
def plug(tmp_path, monkeypatch):
    """plug({path: text}) puts files into a folder plugins/ and imports everything; afterwards all is as before."""
    registries = (TRAINER_REGISTRY, DATASET_REGISTRY)
    registry.register_everything()
    before = [dict(one._obj_map) for one in registries], dict(sys.modules), list(sys.meta_path)

    def put(files: dict[str, str]) -> Plugins:
        for path, text in files.items():
            (tmp_path / "plugins" / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "plugins" / path).write_text(text, encoding="utf-8")
        registry.register_everything.cache_clear()
        return registry.register_everything()

    monkeypatch.setattr(registry, "work_folder", lambda: tmp_path)
    yield put
    for one, objects in zip(registries, before[0], strict=True):
        one._obj_map = objects
    for name in set(sys.modules) - set(before[1]):
        if name.split(".")[0] in ("plugins", "trainers", "datasets"):
            del sys.modules[name]
    sys.meta_path[:] = before[2]
    monkeypatch.undo()
    registry.register_everything.cache_clear()


# Importing


def test_files_of_a_folder_import_each_other_and_are_imported_once(plug):
    plug({
        "clip_text/__init__.py": "",
        "clip_text/coop.py": "COUNT = []\n" + TRAINER.format("FolderCoOp"),
        "zsclip_of_a_folder/words.py": "from trainers.templates_of_mine import FORM\n",
        "zsclip_of_a_folder/templates_of_mine.py": "FORM = 'a photo of a {}.'\n",
        "single.py": "from .clip_text.coop import COUNT\n\nCOUNT.append(1)\n" + TRAINER.format("SingleFile"),
    })  # fmt: skip
    assert {"FolderCoOp", "SingleFile"} <= set(TRAINER_REGISTRY.registered_names())
    assert sys.modules["plugins.clip_text.coop"].COUNT == [1]
    assert TRAINER_REGISTRY.get("FolderCoOp").__module__ == "plugins.clip_text.coop"
    assert sys.modules["trainers.templates_of_mine"] is sys.modules["plugins.zsclip_of_a_folder.templates_of_mine"]


def test_of_a_whole_checkout_trainers_and_data_sets_are_imported_and_scripts_are_not(plug, capsys):
    plug({
        "TheirCode/train.py": "raise SystemExit('a script')\n",
        "TheirCode/clip/clip.py": "raise SystemExit('their clip')\n",
        "TheirCode/trainers/__init__.py": "",
        "TheirCode/trainers/deep/inner.py": TRAINER.format("Inner"),
        "TheirCode/trainers/outer.py": "from trainers.deep.inner import Inner\nimport datasets.own_set\n"
        "from trainers.tools import OF\nfrom datasets.tools import OF as SETS\n\nassert (OF, SETS) == (1, 2)\n",
        "TheirCode/trainers/tools.py": "OF = 1\n",
        "TheirCode/datasets/tools.py": "OF = 2\n",
        "Another/trainers/tools.py": "OF = 3\n",
        "TheirCode/datasets/own_set.py": DATASET.replace("from .names import FOLDER", "FOLDER = 'x'"),
    })  # fmt: skip
    assert "Inner" in TRAINER_REGISTRY.registered_names()
    assert "Caltech" in DATASET_REGISTRY.registered_names()
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("import nothing_of_that_name\n", "ModuleNotFoundError: No module named 'nothing_of_that_name'"),
        ("this is no python\n", "SyntaxError"),
        ("raise SystemExit(2)\n", "SystemExit: 2"),
        ("from trainers.coop import load_clip_to_cpu\n", "ImportError: cannot import name 'load_clip_to_cpu'"),
        (TRAINER.format("Twice") * 2, "KeyError"),
    ],
)
def test_a_file_that_fails_is_named_with_its_reason_and_the_rest_works(plug, capsys, text, reason):
    plug({
        "a_good.py": TRAINER.format("Good"),
        "b_broken.py": f"from .c_used import Used\n{TRAINER.format('Half')}\n{text}",
        "c_used.py": TRAINER.format("Used"),
        "not-a-name.py": "raise ValueError\n",
    })  # fmt: skip
    names = TRAINER_REGISTRY.registered_names()
    assert ("Good" in names, "Used" in names, "Half" in names, "Twice" in names) == (True, True, False, False)
    misnamed, broken = capsys.readouterr().err.splitlines()
    assert "plugins/not-a-name.py is not used" in misnamed
    assert "plugins/b_broken.py is not used" in broken
    assert reason in broken


def test_a_package_that_fails_is_named_once_and_not_for_each_of_its_files(plug, capsys):
    plug({
        "pack/trainers/__init__.py": "from . import one, two\n",
        "pack/trainers/one.py": "import nothing_of_that_name\n",
        "pack/trainers/two.py": TRAINER.format("Two"),
        "pack/datasets/own_set.py": DATASET.replace("from .names import FOLDER", "FOLDER = 'x'"),
    })  # fmt: skip
    (line,) = capsys.readouterr().err.splitlines()
    assert "plugins/pack/trainers/__init__.py is not used" in line
    assert "Caltech" in DATASET_REGISTRY.registered_names()


def test_a_name_that_is_taken_is_replaced_and_said(plug, capsys):
    ours = TRAINER_REGISTRY.get("KgCoOp")
    replaced = plug({"one.py": TRAINER.format("KgCoOp"), "two.py": TRAINER.format("OwnName")})
    assert replaced.replaced == {("TRAINER", "KgCoOp"): "plugins/one.py"}
    assert TRAINER_REGISTRY.get("KgCoOp") is not ours
    assert capsys.readouterr().err == "note: plugins/one.py replaces the trainer KgCoOp\n"


def requested(method, dataset="PHANTOM"):
    return build_config(RunSpec(method=method, folder="run", backbone="PhantomCLIP", pairs=("DATASET.NAME", dataset)))


@pytest.mark.parametrize("method", ["CoOp", "NotOfOurs"])
def test_a_trainer_whose_plugin_cannot_be_imported_fails_with_the_plugins_error(plug, method):
    plug({"pack/trainers/__init__.py": "import nothing_of_that_name\n", "pack/trainers/two.py": TRAINER.format(method)})
    with pytest.raises(UserError, match=r"pack/trainers/two.py.*pack/trainers/__init__.py.*nothing_of_that_name"):
        requested(method)
    assert requested("KgCoOp")
    assert method not in registry.benchmark_methods()


def test_a_data_set_whose_plugin_cannot_be_imported_fails_too(plug):
    plug({"sets/btmri.py": DATASET.replace("class Caltech", "class BTMRI")})  # its `.names` is missing
    with pytest.raises(UserError, match=r"dataset BTMRI of plugins/sets/btmri.py.*names"):
        requested("CoOp", "BTMRI")


def test_a_later_plugin_of_the_name_takes_the_place_of_one_that_failed(plug):
    plug({"a.py": TRAINER.format("CoOp") + "import nothing_of_that_name\n", "b.py": TRAINER.format("CoOp")})
    assert registry.method_class("CoOp").__module__ == "plugins.b"


TRAIN = """
from yacs.config import CfgNode as CN

def reset_cfg(cfg, args):
    cfg.SEED = args.seed

def extend_cfg(cfg):
    cfg.TRAINER.OWN = CN()
    cfg.TRAINER.OWN.W = -{}
    cfg.TRAINER.OWN.ATT = "none"
    cfg.OPTIM.LR_EXP = 6.5
    cfg.OPTIM.NEW_LAYERS = ["film"]

def per_dataset(cfg):
    if cfg.DATASET.NAME == "Caltech101":
        cfg.TRAINER.OWN.ATT = "shape"
    cfg.merge_from_list(of_dataset(cfg.DATASET.NAME))
"""
CHECKOUT = {
    "{}/train.py": TRAIN,
    "{}/utils/logger.py": "from .names import NAME\n",
    "{}/utils/names.py": "NAME = '{}'\n",
    "{}/clip/own_tower.py": "DEEP = '{}'\n",
    "{}/trainers/own.py": "from clip import own_tower\nfrom utils.logger import NAME\n" + TRAINER.format("Of{}"),
}


@pytest.fixture
def checkouts(plug):
    """Two checkouts, One and Two, whose files have the same names."""
    plug({
        path.format(name): text.replace("{}", word)
        for name, word in (("One", "1"), ("Two", "2"))
        for path, text in CHECKOUT.items()
    })  # fmt: skip


def test_each_checkout_has_its_own_modules_beside_trainers_and_datasets(checkouts, capsys):
    for name, word in (("One", "1"), ("Two", "2")):
        trainer = sys.modules[TRAINER_REGISTRY.get(f"Of{word}").__module__]
        assert (trainer.__name__, trainer.own_tower.DEEP, trainer.NAME) == (f"plugins.{name}.trainers.own", word, word)
    assert sys.modules["utils.logger"] is sys.modules["plugins.Two.utils.logger"]


def test_plain_defaults_of_a_checkouts_train_py_apply_and_what_it_sets_besides_is_said(checkouts):
    spec = RunSpec("Of2", "run", dataset="phantom", backbone="ViT-B/16", pairs=("TRAINER.OWN.ATT", "size"))
    cfg = resolve(spec).cfg
    assert cfg.TRAINER.OWN == {"W": -2, "ATT": "size"}
    assert (cfg.OPTIM.LR_EXP, cfg.OPTIM.NEW_LAYERS) == (6.5, ("film",))
    (note,) = notes(resolve(spec))
    assert "plugins/Two/train.py is not run" in note
    assert "TRAINER.OWN.ATT, cfg.merge_from_list(of_dataset(cfg.DATASET.NAME)) must come" in note


def test_a_checkout_copied_without_its_train_py_is_said(plug):
    plug({"part/trainers/own.py": TRAINER.format("OfPart")})
    (note,) = notes(resolve(RunSpec("OfPart", "run", dataset="phantom", backbone="ViT-B/16")).complete())
    assert "plugins/part/train.py is not run" in note
    assert "not copied" in note


# Running


@pytest.fixture
def theirs(plug):
    return plug({
        "their_coop.py": COOP,
        "their_sets/names.py": "FOLDER = 'Phantom'\n",
        "their_sets/caltech.py": DATASET,
    })  # fmt: skip


def words(arguments, trainer, tmp_path, *more, **options):
    """train.py's words for the data set of the plugin."""
    file = tmp_path / "caltech.yaml"
    file.write_text(yaml.safe_dump({"DATASET": {"NAME": "Caltech"}}))
    made = arguments(trainer, *more, **options)
    made[made.index("--dataset-config-file") + 1] = str(file)
    return made


KEYS = ("TRAINER.COOP.PREC", "fp32", "LOSS.NAME", "ce")


def test_a_trainer_and_a_data_set_of_plugins_train_and_results_say_whose_they_are(theirs, arguments, tmp_path):
    results = train.main(words(arguments, "CoOp", tmp_path, *KEYS))
    assert results["notes"][-1] == "The trainer CoOp comes from plugins/their_coop.py and replaces this project's."
    assert results["notes"][-1] in (tmp_path / "run" / "log.txt").read_text()
    assert results["config"]["TRAINER"] == {"NAME": "CoOp", "COOP": {"PREC": "fp32"}}
    assert results["dataset"] == "Caltech"
    split = json.loads((tmp_path / "run" / "split.json").read_text())
    assert len(split["train"]) == 2 * len({label for _, label, _ in split["train"]})


OTHER_HALF = f'''{COOP}

class Novel(CoOp):
    """Uses its attributes as it likes; tests on the second half of the classes, which its data set numbers from 0."""

    def set_model_mode(self, mode="train", names=None):
        super().set_model_mode(mode, names)
        self.training, self.phases, self.learned_from, self.clip_model = mode == "train", [mode], mode, None

    def model_inference(self, image):
        return self.model(image)[:, -2:]

    def load_model(self, directory, cfg, epoch=None):
        super().load_model(directory, epoch)


@TRAINER_REGISTRY.register()
class Halved(Novel):
    pass
'''

HALVES = (
    DATASET.replace(
        "super().__init__(",
        "_, test = self.subsample(test)\n        super().__init__(",
    )
    + """
    def subsample(self, items):
        names = sorted({item.label: item.classname for item in items}.items())[-2:]
        new = {label: number for number, (label, _) in enumerate(names)}
        return [], [Datum(i.impath, label=new[i.label], classname=i.classname) for i in items if i.label in new]
"""
)


def test_a_test_of_some_classes_under_labels_of_their_own_keeps_its_result_and_says_so(plug, arguments, tmp_path):
    plug({"halved.py": OTHER_HALF, "sets/names.py": "FOLDER = 'Phantom'\n", "sets/caltech.py": HALVES})
    given = words(arguments, "Halved", tmp_path, *KEYS)
    results = train.main(given)
    stored = Predictions.load(tmp_path / "run" / "predictions.npz")
    classes = [name for _, _, name in json.loads((tmp_path / "run" / "split.json").read_text())["train"]]
    assert stored.classnames == tuple(dict.fromkeys(classes))[-2:]
    assert "tested on 2 of 12 classes" in results["warnings"]
    again = [*given, "--eval-only", "--model-dir", str(tmp_path / "run"), "--load-epoch", "3"]
    again = [*again[-5:], *given]
    again[again.index("--output-dir") + 1] = str(tmp_path / "again")
    assert train.main(again)["accuracy"] == results["accuracy"]


@pytest.mark.parametrize(
    ("tested", "columns", "expected"),
    [
        ({0: "a"}, 4, ["a", "b", "c", "class 3"]),
        ({}, 2, ["a", "b"]),
        ({0: "b", 2: "c"}, 3, ["b", "class 1", "c"]),
    ],
)
def test_logits_have_the_names_of_the_tested_labels(tested, columns, expected):
    assert class_names(["a", "b", "c"], tested, columns) == expected


@pytest.mark.slow
@pytest.mark.parametrize("method", ["OGKD", "TipAdapterF"])
def test_methods_of_both_kinds_learn_on_a_data_set_that_has_dassls_attributes_alone(
    theirs, arguments, tmp_path, method
):
    teacher = ("TRAINER.OGKD.PROMPTS", "templates") if method == "OGKD" else ()
    assert train.main(words(arguments, method, tmp_path, *teacher))["num_test"] == 48


def test_a_teacher_of_such_a_data_set_reads_the_bank_that_the_configuration_names(theirs, arguments, tmp_path):
    with pytest.raises(UserError, match=r"no teacher prompts for Caltech.*PROMPTS templates"):
        train.main(words(arguments, "BiomedCoOp", tmp_path))
    names = {name for _, _, name in json.loads((tmp_path / "run" / "split.json").read_text())["train"]}
    bank = tmp_path / "bank" / "Caltech.json"
    bank.parent.mkdir()
    bank.write_text(json.dumps({name: [f"a scan of {name}.", f"{name}, seen."] for name in names}))
    results = train.main(words(arguments, "BiomedCoOp", tmp_path, "TRAINER.BIOMEDCOOP.PROMPT_BANK", str(bank.parent)))
    assert results["num_test"] == 48


# Configuration


@pytest.fixture
def config(plug, tmp_path):
    """config(yaml text, *pairs) of a trainer without extend_config."""
    plug({"free.py": TRAINER.format("Free")})

    def build(text="", *pairs, backbone="ViT-B/16", trainer="Free"):
        (tmp_path / "free.yaml").write_text(text)
        spec = RunSpec(
            method=trainer, folder="run", dataset="phantom", backbone=backbone, pairs=pairs,
            method_file=str(tmp_path / "free.yaml"),
        )  # fmt: skip
        return build_config(spec)

    return build


def test_any_key_of_a_trainer_comes_from_yaml_or_the_command_line(config):
    text = "TRAINER:\n  FREE:\n    W: 8\n    CTX_INIT: 'a photo of a'\n  MODAL: base\nLOSS:\n  T: 1.0\n"
    cfg = config(
        text, "TRAINER.FREE.W", "2.5", "TRAINER.OTHER.DEEP.N", "3", "LOSS.NAME", "ce", "TRAINER.FREE.ON", "True"
    )
    assert (cfg.TRAINER.FREE.W, cfg.TRAINER.FREE.CTX_INIT, cfg.TRAINER.FREE.ON) == (2.5, "a photo of a", True)
    assert (cfg.TRAINER.OTHER.DEEP.N, cfg.TRAINER.MODAL, cfg.LOSS.T, cfg.LOSS.NAME) == (3, "base", 1.0, "ce")
    assert cfg.clone().TRAINER.FREE == cfg.TRAINER.FREE


@pytest.mark.parametrize(
    ("read", "key", "example"),
    [
        (lambda cfg: cfg.TRAINER.FREE.PREC, "TRAINER.FREE.PREC", "TRAINER.FREE.PREC fp32"),
        (lambda cfg: cfg.clone().TRAINER.FREE.MINE, "TRAINER.FREE.MINE", "TRAINER.FREE.MINE VALUE"),
        (lambda cfg: cfg.TRAINER.COOP, "TRAINER.COOP", "TRAINER.COOP.N_CTX 16"),
        (lambda cfg: cfg.LOSS.NAME, "LOSS", "LOSS.N_CTX 16"),
        (lambda cfg: cfg.OPTIM.LRX, "OPTIM.LRX", "OPTIM.LRX VALUE"),
    ],
)
def test_a_key_that_is_read_and_nobody_gave_is_named_with_an_example(config, read, key, example):
    cfg = config("TRAINER:\n  FREE:\n    W: 8.0\n")
    with pytest.raises(UserError) as error:
        read(cfg)
    assert f"key {key}, which was not set" in str(error.value)
    assert str(error.value).endswith(f"for example {example}.")
    assert not hasattr(cfg.TRAINER, "COOP")
    assert getattr(cfg.TRAINER.FREE, "PREC", "fp16") == "fp16"


@pytest.mark.parametrize("pairs", [("OPTIM.LRR", "1"), ("DATASET.NAMES", "x")])
def test_a_slip_in_a_section_that_is_known_stays_an_error(config, pairs):
    with pytest.raises(UserError, match=f"Unknown configuration key '{pairs[0]}'"):
        config("", *pairs)


def test_keys_and_values_that_the_trainer_itself_names_are_its_own_in_every_section(plug, config):
    plug(
        {
            "own.py": TRAINER.format("Own")
            + "\n\ndef scheduled(cfg):\n    return cfg.OPTIM.LR_EXP, 'lamb', cfg.MODEL.TEACHER.NAME\n"
        }
    )
    text = "OPTIM:\n  LR_EXP: 6.5\n  NAME: lamb\nMODEL:\n  TEACHER:\n    NAME: ViT-L/14\n"
    cfg = config(text, "DATASET.NUM_SHOTS", "0", trainer="Own")
    assert (cfg.OPTIM.LR_EXP, cfg.OPTIM.NAME, cfg.MODEL.TEACHER.NAME) == (6.5, "lamb", "ViT-L/14")
    assert cfg.DATASET.NUM_SHOTS == -1  # all images, as CoOp's data sets read 0
    for pair in (("OPTIM.LR_EPX", "6.5"), ("OPTIM.NAME", "lamp")):
        with pytest.raises(UserError, match=pair[0]):
            config("", *pair, trainer="Own")


def test_a_method_built_here_takes_no_key_that_it_does_not_have(config):
    with pytest.raises(UserError, match=r"Unknown configuration key 'TRAINER.COOP.W'"):
        config("", "TRAINER.COOP.W", "1", trainer="CoOp", backbone="PhantomCLIP")


@pytest.mark.parametrize(
    ("backbone", "size"),
    [("RN50x4", 288), ("ViT-L/14@336px", 336), ("resnet18", 224)],
)
def test_backbones_by_their_own_names_take_the_images_that_they_were_trained_on(config, backbone, size):
    cfg = config(backbone=backbone)
    assert tuple(cfg.INPUT.SIZE) == (size, size)
    assert cfg.INPUT.PIXEL_MEAN[0] == pytest.approx(0.485 if backbone == "resnet18" else 0.48145466)


def test_another_backbone_passes_when_the_configuration_says_what_it_takes(config):
    given = ("INPUT.SIZE", "(32, 48)", "INPUT.PIXEL_MEAN", "[0.1, 0.2, 0.3]", "INPUT.PIXEL_STD", "[1., 1., 1.]")
    assert config("", *given, backbone="of_my_own").INPUT.SIZE == (32, 48)
    with pytest.raises(UserError, match=r"'of_my_own'.*INPUT\.SIZE"):
        config("", *given[:4], backbone="of_my_own")


def test_random_numbers_go_on_through_the_epochs_for_trainers_of_other_code_bases_alone(config):
    assert not config().TRAIN.RESEED_EPOCHS
    assert config(trainer="CoOp", backbone="PhantomCLIP").TRAIN.RESEED_EPOCHS
    assert config("", "TRAIN.RESEED_EPOCHS", "True").TRAIN.RESEED_EPOCHS
