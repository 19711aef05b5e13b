"""Reading configuration files: YAML files as they are, and the two kinds of this project's own.

`configs/datasets.yaml` stands for a folder `configs/datasets/` with a file for each of its names, and a method's
`configs/trainers/OGKD.yaml` for the folder `configs/trainers/OGKD/<protocol>/` with a file for each data set, which is
CoOp's layout: `configs/trainers/OGKD/base2new/btmri.yaml` is read from it. A file that is really there comes first.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import yaml

from ogkd.core import UserError, brief

DEEPEST = 20  # levels of sections and lists
PROTOCOLS = ("base2new", "few_shot")
DEFAULT = "default"  # the settings for a data set that has none of its own
OPTIONS = "options"  # the head of a table of published values

Settings = dict[str, Any]


def read_config(path: str | Path) -> Settings:
    """Read the sections and keys of a configuration; an empty file has none. The sections are not to be changed.

    Raises:
        UserError: the file is missing, is not YAML, or holds something other than sections.
    """
    path = Path(path)
    parts = {} if path.is_file() else _parts(path.parent)
    return parts[path.stem] if path.suffix == ".yaml" and path.stem in parts else _read(path)


def configs_in(folder: Path) -> set[str]:
    """The names, without .yaml, of the configurations in a folder: files that are there, and those read from one."""
    return {path.stem for path in folder.glob("*.yaml")} | _parts(folder).keys()


def _parts(folder: Path) -> dict[str, Settings]:
    """The configurations that one file holds in place of a folder, by name; {} if there is no such file."""
    table, method = Path(f"{folder}.yaml"), Path(f"{folder.parent}.yaml")
    if table.is_file():
        return _table(table, table.stat().st_mtime_ns)
    if folder.name in PROTOCOLS and method.is_file():
        return _of_protocol(method, folder.name, method.stat().st_mtime_ns)
    return {}


@cache
def _table(path: Path, _written: int) -> dict[str, Settings]:
    return _read(path)


@cache
def _of_protocol(path: Path, protocol: str, _written: int) -> dict[str, Settings]:
    """A method's settings for one protocol: of each data set with published values, and DEFAULT for all others.

    Raises:
        UserError: the file has other sections than a method's, or a row of another length than its head.
    """
    content = _read(path)
    try:
        common, own = (content.pop(name, None) or {} for name in ("common", protocol))
        published = dict((content.pop("published", None) or {}).get(protocol) or {})
        others = content.keys() - set(PROTOCOLS)
        default = merged(common, own)
        keys = [_option_key(path, key) for key in published.pop(OPTIONS, ())]
        rows = {name: zip(keys, values, strict=True) for name, values in published.items()}
        tuned = {name: merged(default, nested(dict(row))) for name, row in rows.items()}
    except (AttributeError, TypeError, ValueError):
        others = {protocol, "published"}
    if others:
        raise UserError(
            f"{path} is not a method's file (see {', '.join(sorted(others))}): it has sections of settings, common, "
            f"{' and '.join(PROTOCOLS)}, and in published a table for each protocol: {OPTIONS}: [KEY, ...], then a "
            "row of as many values for each data set."
        )
    return {DEFAULT: default} | tuned


def tuned_in(path: Path) -> list[str]:
    """The keys that a method's configuration for a data set takes from a paper's table and for which that table has
    not one value for all data sets; [] for any other file."""
    method = Path(f"{path.parent.parent}.yaml")
    if path.is_file() or not method.is_file():
        return []
    table = dict((_read(method).get("published") or {}).get(path.parent.name) or {})
    options = table.pop(OPTIONS, ())
    if path.stem not in table:
        return []
    columns = zip(options, zip(*table.values(), strict=True), strict=True)
    return [_option_key(method, key) for key, values in columns if len(set(map(repr, values))) > 1]


def _option_key(method: Path, key: str) -> str:
    """A key in a method's file: without a dot it is one of the method's options."""
    return key if "." in key else f"TRAINER.{method.stem.upper()}.{key}"


def merged(below: Settings, above: Settings) -> Settings:
    """Nested settings with those of `above` replacing those of `below`."""
    both = {key for key in below.keys() & above.keys() if isinstance(below[key], dict) and isinstance(above[key], dict)}
    return {**below, **above, **{key: merged(below[key], above[key]) for key in both}}


def nested(values: dict[str, Any]) -> Settings:
    """Values of dotted keys as sections."""
    settings: Settings = {}
    for key, value in values.items():
        for section in reversed(key.split(".")):
            value = {section: value}
        settings = merged(settings, value)
    return settings


def _read(path: Path) -> Settings:
    content = read_yaml(path, "configuration")
    content = {} if content is None else content
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise UserError(f"{path} is not a configuration: it must be a YAML mapping of sections to keys.")
    return content


def read_yaml(path: Path, what: str, loader: type[yaml.SafeLoader] = yaml.SafeLoader) -> Any:
    """Read a YAML file, called `what` in errors.

    Raises:
        UserError: the file cannot be read, is not YAML, or is nested too deeply.
    """
    try:
        content = yaml.load(path.read_bytes(), Loader=loader)
        deep = _depth(content) > DEEPEST
    except FileNotFoundError:
        raise UserError(f"There is no {what} file {path}.") from None
    except OSError as error:
        raise UserError(f"The {what} {path} cannot be read ({error.strerror}).") from None
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}: {getattr(error, 'problem', '')}" if mark else brief(error)
        raise UserError(f"{path} is not valid YAML ({where}): correct it there.") from None
    except RecursionError:
        deep = True
    if deep:
        raise UserError(f"The {what} {path} is nested too deeply or contains itself: write it out.")
    return content


def _depth(node: object) -> int:
    inner = node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
    return 1 + max(map(_depth, inner), default=0)
