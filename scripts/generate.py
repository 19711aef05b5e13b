#!/usr/bin/env python3
"""Generate text that repeats facts from elsewhere: each method's scripts, and tables in README.md and docs/.

    python scripts/generate.py             write them
    python scripts/generate.py --check     write nothing; list what is out of date, and exit with 1 if anything is

A method's title, paper and position in tables are attributes of its class; a data set's facts are in
ogkd/data/catalogue.json, a model's in ogkd/models/named.json. A table goes between <!-- methods --> and
<!-- /methods --> in a page.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ogkd.cli.run import ARGUMENTS
from ogkd.core import UserError, run_program
from ogkd.data import catalogue
from ogkd.models.named import NOT_SEEN, SEEN, named_models
from ogkd.runs.registry import benchmark_methods, method_class
from ogkd.tuning.method import Method

ROOT = Path(__file__).resolve().parents[1]
WHAT = {
    "base2new": "trains on the base classes, tests base and novel",
    "few_shot": "trains and tests on all classes",
    "transfer": "learns on one data set, tests on another with the class names of that one",
}
HEADLESS = {"base2new": "trains and tests on the base classes (it has no head for novel ones)"}
ARXIV = "https://arxiv.org/abs/"


def methods() -> list[type[Method]]:
    """The methods of trainers/, in table order; plugins have no scripts here."""
    found = [method_class(name) for name in benchmark_methods()]
    return [method for method in found if method.__module__.startswith("ogkd.trainers.")]


def script_folder(title: str) -> str:
    """The folder of a method's scripts: "Tip-Adapter-F" -> "tip_adapter_f", "Zero-shot" -> "zeroshot"."""
    words = re.sub(r"-(?=[a-z])", "", title).replace("+", " plus ")
    return "_".join(re.findall(r"[a-z0-9]+", words.lower()))


def script(method: type[Method], protocol: str) -> str:
    """The content of scripts/<method>/<protocol>.sh."""
    arguments, _ = ARGUMENTS[protocol]
    what = WHAT | ({} if method.has_novel_head else HEADLESS)
    return (
        "#!/usr/bin/env bash\n"
        f'exec bash "$(dirname "$0")/../run.sh" {method.__name__} {protocol} "$@" '
        f"# {what[protocol]}: {arguments} [KEY VALUE ...]\n"
    )


def scripts() -> dict[Path, str]:
    """The content of each method's scripts, by path relative to the repository."""
    return {
        Path("scripts", script_folder(method.title), f"{protocol}.sh"): script(method, protocol)
        for method in methods()
        for protocol in ARGUMENTS
    }


def left_over(wanted: dict[Path, str]) -> list[Path]:
    """Scripts of methods that no longer exist."""
    found = (path for path in (ROOT / "scripts").glob("*/*.sh") if "/../run.sh" in path.read_text(encoding="utf-8"))
    return sorted({path.relative_to(ROOT) for path in found} - set(wanted))


def methods_table(page: Path) -> str:
    rows = []
    for method in methods():
        file = Path(*method.__module__.removeprefix("ogkd.").split(".")).with_suffix(".py")
        rows.append(
            (
                method.title,
                f"`{script_folder(method.title)}`",
                "yes" if method.has_novel_head else "no",
                f"[{file.name}]({_link(page, file)})",
                f"[{method.paper}]({ARXIV}{method.paper})" if method.paper else "",
            )
        )
    return _table(("method", "scripts", "names novel classes", "file", "paper"), rows)


def datasets_table(page: Path) -> str:
    rows = [
        (
            f"`{facts.config}`",
            facts.name,
            facts.organ,
            facts.modality,
            str(len(facts.classes)),
            " / ".join(f"{count:,}" for count in facts.counts),
            "" if facts.base2new else "few-shot only",
        )
        for facts in catalogue.load().datasets.values()
    ]
    return _table(("name", "data set", "organ", "modality", "classes", "images: train / val / test", ""), rows)


def models_table(page: Path) -> str:
    rows = [
        (
            f"`{one.name}`",
            f"[{one.repository or one.card.removeprefix('https://')}]({one.card}){', gated' if one.gated else ''}",
            one.towers,
            str(one.pixels),
            str(one.width),
            str(one.texts),
            f"{one.bytes_per_image / 1e6:.2f}",
            one.licence.split(";")[0],
            f"`{one.revision[:8]}`" if one.revision else "newest" if one.repository and not one.unsupported else "",
        )
        for one in named_models().values()
    ]
    heads = ("name", "from", "image and text tower", "pixels", "width", "tokens", "MB per image", "licence", "revision")
    return _table(heads, rows)


def licences_table(page: Path) -> str:
    rows = [
        (one.name, f"[{one.repository or one.name}]({one.card})", one.licence, one.known_from)
        for one in named_models().values()
    ]
    return _table(("name here", "source", "licence", "how known"), rows)


def exposure_table(page: Path) -> str:
    sets = list(catalogue.load().datasets)
    rows = [
        (
            one.name,
            f"[{one.data}]({one.source})",
            *(", ".join(name for name in sets if one.exposure(name)[0] == status) for status in (SEEN, NOT_SEEN)),
        )
        for one in named_models().values()
    ]
    reasons = [
        f"- {one.name}, {name}: {status}, because {why}."
        for one in named_models().values()
        for name, (status, why) in one.sets.items()
    ]
    return "\n".join([_table(("", "pre-trained on", SEEN, NOT_SEEN), rows), "", *reasons])


TABLES: dict[str, Callable[[Path], str]] = {
    "methods": methods_table,
    "datasets": datasets_table,
    "models": models_table,
    "licences": licences_table,
    "exposure": exposure_table,
}


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines).replace("|  |", "| |").replace("|  |", "| |")


def _link(page: Path, file: Path) -> str:
    """A file's path as a link in a page; both are relative to the repository."""
    return "/".join([".."] * (len(page.parts) - 1) + list(file.parts))


def pages() -> dict[Path, str]:
    """The content of each page that has markers, by path relative to the repository.

    Raises:
        UserError: a marker has an unknown name, or is not closed.
    """
    found = {}
    for path in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]:
        text, page = path.read_text(encoding="utf-8"), path.relative_to(ROOT)
        filled = fill(text, page)
        if filled is not None:
            found[page] = filled
    return found


def fill(text: str, page: Path) -> str | None:
    """A page's text with its tables regenerated; None if it has no markers."""
    names = re.findall(r"^<!-- (\w+) -->$", text, re.MULTILINE)
    for name in names:
        if name not in TABLES:
            raise UserError(f"{page} has the marker <!-- {name} -->, but the tables are {', '.join(TABLES)}.")
        begin, end = f"<!-- {name} -->\n", f"<!-- /{name} -->"
        before, _, rest = text.partition(begin)
        _, closed, after = rest.partition(end)
        if not closed:
            raise UserError(f"{page} has <!-- {name} --> without <!-- /{name} --> below it: add that line.")
        text = before + begin + TABLES[name](page) + "\n" + end + after
    return text if names else None


def changes() -> dict[Path, str | None]:
    """What is out of date, with the content that it must have: None for a script of a method that no longer exists."""
    wanted = scripts()
    every = {**dict.fromkeys(left_over(wanted)), **wanted, **pages()}
    return {path: text for path, text in every.items() if _content(path) != text}


def _content(path: Path) -> str:
    return (ROOT / path).read_text(encoding="utf-8") if (ROOT / path).is_file() else ""


def stale() -> list[str]:
    """What is out of date, one phrase per file."""
    return [
        f"{path} {'belongs to no method' if text is None else 'is out of date'}" for path, text in changes().items()
    ]


def write() -> list[Path]:
    """Update what is out of date and remove scripts of methods that no longer exist. Returns the changed paths."""
    changed = changes()
    for path, text in changed.items():
        (ROOT / path).parent.mkdir(parents=True, exist_ok=True)
        if text is None:
            (ROOT / path).unlink()
        else:
            (ROOT / path).write_text(text, encoding="utf-8")
    return list(changed)


def main(argv: Sequence[str] | None = None) -> int:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--check", action="store_true", help="write nothing; exit with 1 if anything is out of date")
    if p.parse_args(argv).check:
        for phrase in stale():
            print(f"{phrase}: run python scripts/generate.py")
        return int(bool(stale()))
    for path in write():
        print(path)
    return 0


if __name__ == "__main__":
    sys.exit(run_program(main))
