"""Finding runs and reading their results. results.json determines what a run is, wherever its folder is."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from ogkd.core import UserError, checkpoints_in, models_in
from ogkd.core.config_files import configs_in, read_config
from ogkd.core.places import HOME
from ogkd.core.schema import MissingFile, Rule, one_of, read_record
from ogkd.core.words import counted
from ogkd.data import catalogue
from ogkd.data.sampling import BALANCED
from ogkd.evaluation.metrics import METRICS

# Kinds of runs by the classes tested; a run that was trained and tested on novel classes is "train_new".
KINDS = {"base": "train_base", "new": "test_new", "all": "few_shot"}
_NAME = Rule(lambda value: isinstance(value, str) and bool(value), "a name")
_SHAPE = {
    "method": _NAME, "dataset": _NAME, "backbone": _NAME, "subsample": one_of(*KINDS), "shots": int, "seed": int,
    "seconds": float, "config": dict, "fingerprints": dict, "title?": str, "source?": str, "changed?": dict,
    "tuned?": [str], "labelled?": ({"train": [int], "val": [int], "chosen": [str]}, None), "threads?": int,
    "trained?": bool, "evaluated?": bool, "novel?": bool, "draw?": str, "notes?": [str],
    "warnings?": [str], "confusion_matrix?": ([[int]], None), "classnames?": ([str], None),
}  # fmt: skip
RESULTS, DIVERGED = "results.json", "diverged.json"
SHAPES = {
    RESULTS: _SHAPE | {"accuracy": float} | {f"{name}?": (float, None) for name in METRICS if name != "accuracy"},
    DIVERGED: _SHAPE | {"diverged": {"message": str, "epoch": int, "step": int, "term": str}},
}
TRIAL = "trial"  # the kind of a run that a search for settings tries, which no table shows
ELSEWHERE = "elsewhere"  # the source of parameters that were not trained by a run of this project


@dataclass(frozen=True)
class Run:
    """One finished run, or one that diverged and so has no metrics.

    kind: train_base (tested on the base classes), test_new (on the novel ones), few_shot (on all), train_new (trained
        on the novel ones), or transfer (trained on another data set, `source`, as evaluate.py's are), or trial
        (of a search for settings).
    dataset: the name on the command line, such as btmri, or a folder of the user's own images.
    backbone: the name, or the last part of the path or hub name.
    """

    kind: str
    dataset: str
    backbone: str
    method: str
    shots: int
    seed: int
    results: dict
    path: Path

    @property
    def source(self) -> str:
        """The data set that a transfer run was trained on, by its name on the command line."""
        name = self.results.get("source", "")
        return command_names().get(name, name)

    @property
    def draw(self) -> str:
        """How the training images were drawn, see `ogkd.data.sampling.draw_shots`."""
        return self.results.get("draw", BALANCED)

    @property
    def draw_title(self) -> str:
        """The draw as tables name it: "proportional draw"; "" for the balanced one."""
        return "" if self.draw == BALANCED else f"{self.draw} draw"

    @property
    def backbone_and_draw(self) -> str:
        """What the runs of a table share besides the protocol: the backbone, and a draw that is not balanced."""
        return ", ".join(filter(None, [self.backbone, self.draw_title]))

    @property
    def diverged(self) -> bool:
        """Whether the training diverged, so that there are no accuracy and no predictions."""
        return "diverged" in self.results

    @property
    def changed(self) -> dict[str, object] | None:
        """The configuration keys that the user changed, with their values; None if the run did not record them."""
        return self.results.get("changed")


def collect(folder: Path, diverged: bool = False) -> list[Run]:
    """All finished runs below a folder, that is, those with a results.json, but for the trials of searches. A corrupt
    one is reported and left out.

    diverged: whether to include runs that diverged.

    Raises:
        UserError: the folder does not exist, or no run in it is finished (or diverged, if these are included).
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"There is no folder {folder} with results.")
    runs = [run for run in runs_in(folders_below(folder), diverged) if run.kind != TRIAL]
    if not runs:
        raise UserError(f"No run below {folder} is finished{begun_below([folder])}.")
    return runs


def folders_below(folder: Path) -> list[Path]:
    """The folders of the finished and diverged runs below a folder."""
    return sorted({path.parent for name in (RESULTS, DIVERGED) for path in Path(folder).rglob(name)})


def begun_below(folders: Iterable[Path]) -> str:
    """The end of a sentence on folders without finished runs: which unfinished and diverged runs there are."""
    folders = list(map(Path, folders))
    waiting = [path for folder in folders for path, _ in unfinished(folder)]
    broken = [path for folder in folders for path in folders_below(folder) if not (path / RESULTS).exists()]
    number = counted(len(waiting), "run is", "runs are")
    text = f"; {number} unfinished, the first is {waiting[0]}" if waiting else ""
    return text + (f"; {len(broken)} diverged, the first is {broken[0]}" if broken else "")


def unfinished(folder: Path) -> list[tuple[Path, int]]:
    """Folders of runs that were started but neither finished nor diverged, with the last saved epoch (0: none)."""
    return [
        (run, max((epoch for model in models_in(run) for epoch in checkpoints_in(model)), default=0))
        for run in sorted(path.parent for path in Path(folder).rglob("config.yaml"))
        if not any((run / name).exists() for name in (RESULTS, DIVERGED))
    ]


def runs_in(folders: Iterable[Path], diverged: bool = False) -> list[Run]:
    """The finished runs in these run folders, with `diverged` also those that diverged. A corrupt one is reported and
    left out."""
    runs = []
    for folder in map(Path, folders):
        if (folder / RESULTS).exists() or (diverged and (folder / DIVERGED).exists()):
            try:
                runs.append(read_run(folder))
            except UserError as error:
                warn(f"a run is left out: {error}")
    return runs


def read_run(folder: Path) -> Run:
    """The finished run in a folder, or the diverged one in a folder without results.json.

    Raises:
        UserError: its results.json is missing or corrupt; the message says why.
    """
    done = (folder / RESULTS).exists() or not (folder / DIVERGED).exists()
    results = read_results(folder / (RESULTS if done else DIVERGED))
    kind = KINDS[results["subsample"]]
    if kind == "test_new" and _trained(results, folder):
        kind = "train_new"
    elsewhere = results.get("source", "") not in ("", ELSEWHERE, results["dataset"])
    if elsewhere or results.get("evaluated"):  # on another folder, which may have the same name
        kind = "transfer"
    dataset = results["config"].get("DATASET")
    if isinstance(dataset, dict) and dataset.get("TRIAL"):
        kind = TRIAL
    backbone = re.split(r"[/\\]", results["backbone"].removeprefix("hf-hub:").rstrip("/\\"))[-1]
    method, shots, seed = (results[name] for name in ("method", "shots", "seed"))
    return Run(kind, _command_name(results), backbone, method, shots, seed, results, folder)


def read_results(path: Path) -> dict:
    """The content of a run's results.json (or diverged.json), with all fields that tables use, of the right types.

    Raises:
        UserError: the file is missing or corrupt; the message says why.
    """
    try:
        return read_record(path, SHAPES[path.name], "delete it and test the run again")
    except MissingFile:
        raise UserError(
            f"There is no file {path}: give the folder of a finished run, or repeat its command to finish it."
        ) from None


def _trained(results: dict, folder: Path) -> bool:
    """Whether the run was trained. For runs that did not record it, checkpoints decide."""
    if "trained" in results:
        return results["trained"]
    return results["fingerprints"].get("checkpoint") is None and bool(models_in(folder))


def _command_name(results: dict) -> str:
    """The data set's name on the command line: btmri for BTMRI; a folder of the user's own images keeps its name."""
    name, config = results["dataset"], results["config"].get("DATASET")
    if isinstance(config, dict) and config.get("FOLDER"):
        return name
    return command_names().get(name, name)


@cache
def command_names() -> dict[str, str]:
    """Name of a data set -> name on the command line, for the catalogue and configs/datasets/."""
    folder = HOME / "configs" / "datasets"
    names = {read_config(folder / f"{name}.yaml")["DATASET"]["NAME"]: name for name in sorted(configs_in(folder))}
    return names | {facts.name: facts.config for facts in catalogue.load().everything()}


def warn(sentence: str) -> None:
    """Print a warning for readers of the tables on stderr; stdout is only for tables."""
    print(f"warning: {sentence}", file=sys.stderr)
