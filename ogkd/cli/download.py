"""Download data sets and weights, and check that they are complete: `python scripts/download.py NAME`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from ogkd.core import UserError, expanded, report_error
from ogkd.core.places import command
from ogkd.data import catalogue
from ogkd.data.catalogue import DEFAULT_BACKBONE, Catalogue, Facts
from ogkd.data.fetch.check import check
from ogkd.data.fetch.install import Places, install
from ogkd.models.fetching import export_weights, install_weights
from ogkd.models.named import NamedModel, named_model, named_models

EPILOG = """
If interrupted, run the same command again; it resumes (weights: after the last complete file).
To use mirrors, set HF_ENDPOINT (or --endpoint), GDRIVE_ENDPOINT and GITHUB_RAW_ENDPOINT to their URLs.
"""


def main(arguments: Sequence[str] | None = None, published: Catalogue | None = None) -> int:
    """Return 0 if everything requested is complete, else 2 after one sentence per failure on stderr.

    `published` replaces the catalogue of data sets.

    Raises:
        UserError: an option is wrong; nothing is downloaded then.
    """
    published = published or catalogue.load()
    options = _parser(published).parse_args(arguments)
    failed = False
    for one in _wanted(options, published):
        try:
            _weights(one, options) if isinstance(one, NamedModel) else _data_set(one, options)
        except UserError as error:
            failed = True
            report_error(error)
        except KeyboardInterrupt:
            raise KeyboardInterrupt("the same command resumes") from None
    return 2 if failed else 0


def _parser(published: Catalogue) -> argparse.ArgumentParser:
    known = ", ".join(facts.config for facts in published.published())
    parser = argparse.ArgumentParser(
        prog=command("download"),
        description="Download the published data sets and weights of models, and check that they are complete.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    models = ", ".join(named_models())
    names = (
        f"{known}; all: the benchmark's data sets; transfer: those of the transfer protocol; weights: BiomedCLIP's, or "
        f"those of the models named after it: {models}"
    )
    parser.add_argument("names", nargs="+", metavar="NAME", help=names)
    parser.add_argument("--root", type=_path, default=Path("data"), help="data folder (default: data)")
    parser.add_argument("--check", action="store_true", help="only check, download nothing")
    parser.add_argument("--from", dest="given", type=_path, metavar="FOLDER_OR_ZIP", help="use local files instead")
    parser.add_argument("--export", type=_path, metavar="FOLDER", help="also copy the weights to a folder")
    parser.add_argument("--endpoint", metavar="URL", help="mirror of the Hugging Face hub")
    return parser


def _path(word: str) -> Path:
    return Path(expanded(word))


def _wanted(options: argparse.Namespace, published: Catalogue) -> list[Facts | NamedModel]:
    """The data sets and models of the names. Raises UserError for a name or an option that does not fit."""
    names = dict.fromkeys(options.names)
    sets: dict[str, Facts] = {}
    models = {model.name: model for name in names if (model := named_model(name))}
    if "weights" in names and not models:
        models = {DEFAULT_BACKBONE: named_models()[DEFAULT_BACKBONE]}
    for name in names:
        if name == "all":
            sets |= published.datasets
        elif name == "transfer":
            sets |= published.transfer
        elif name.lower() == "phantom":
            raise UserError(
                "Phantom is not downloaded: run `python -m ogkd.phantom.dataset --root data` to generate it."
            )
        elif name != "weights" and not named_model(name):
            facts = published.lookup(name, named_models())
            sets[facts.name] = facts
    if options.export and len(models) != 1:
        raise UserError(
            f"--export copies the weights of one model: name it, `{command('download')} weights NAME --export FOLDER`."
        )
    if options.given and not sets:
        raise UserError("--from is for data sets: give a folder of weights to a run instead (BACKBONE=FOLDER).")
    if options.given and options.check:
        raise UserError("--check only checks what is under --root: leave out --check or --from.")
    given = options.given
    if given and len(sets) > 1 and not all((given / facts.zip_name).is_file() for facts in sets.values()):
        raise UserError(f"--from {given} with several data sets needs the zip of each there, such as BTMRI.zip.")
    return [*sets.values(), *models.values()]


def _data_set(facts: Facts, options: argparse.Namespace) -> None:
    root, places = options.root, Places.from_environment(options.endpoint)
    report = check(facts, root) if options.check else install(facts, root, places, options.given)
    print(f"{facts.name}: {facts.modality}, {facts.organ}; images in {facts.image_folder(root)}")
    if report.split is not None:
        print(report.table(), flush=True)
    if not report.complete:
        raise UserError(
            f"{facts.name} is incomplete, {report.fault()}: run `{command('download', facts.config, '--root', root)}`."
        )


def _weights(model: NamedModel, options: argparse.Namespace) -> None:
    folder = install_weights(model, options.endpoint, options.check)
    print(f"{model.name}: {model.repository}, revision {folder.name}, in {folder}")
    print(f"Licence: {model.licence}; see {model.card}", flush=True)
    if options.export:
        export_weights(model, folder, options.export)
        print(f"Copied to {options.export}: a run uses it with BACKBONE={options.export}.", flush=True)
