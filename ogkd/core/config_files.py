"""Reading configuration files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from ogkd.core import UserError, brief

DEEPEST = 20  # levels of sections and lists


def read_config(path: str | Path) -> dict[str, Any]:
    """Read the sections and keys of a YAML file; an empty file has none.

    Raises:
        UserError: the file is missing, is not YAML, or holds something other than sections.
    """
    try:
        content = yaml.safe_load(Path(path).read_bytes())
        deep = _depth(content) > DEEPEST
    except FileNotFoundError:
        raise UserError(f"There is no configuration file {path}.") from None
    except OSError as error:
        raise UserError(f"The configuration {path} cannot be read ({error.strerror}).") from None
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}: {getattr(error, 'problem', '')}" if mark else brief(error)
        raise UserError(f"{path} is not valid YAML ({where}): correct it there.") from None
    except RecursionError:
        deep = True
    if deep:
        raise UserError(f"The configuration {path} is nested too deeply or contains itself: write out its sections.")
    content = {} if content is None else content
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise UserError(f"{path} is not a configuration: it must be a YAML mapping of sections to keys.")
    return content


def _depth(node: object) -> int:
    inner = node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
    return 1 + max(map(_depth, inner), default=0)
