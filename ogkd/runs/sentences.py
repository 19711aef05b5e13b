"""General sentences for the teachers of methods, where a folder of your own images has none."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ogkd.data.catalogue import load, own_folder
from ogkd.prompts.bank import find_bank

TEMPLATES = "templates"


def general_sentences(methods: Iterable[str], dataset: str, pairs: Sequence[str]) -> dict[str, list[str]]:
    """The KEY VALUE pair by which each method's teacher uses general sentences; {} if the data set has sentences. That
    one of the catalogue has none is an error of the run."""
    from ogkd.runs.registry import method_class

    folder = own_folder(dataset)
    if (folder == dataset and load().find(dataset) is not None) or find_bank(folder).is_file():
        return {}
    teachers = [name for name in methods if "PROMPTS" in getattr(method_class(name), "options", ())]
    keys = {name: f"TRAINER.{name.upper()}.PROMPTS" for name in teachers}
    return {name: [key, TEMPLATES] for name, key in keys.items() if key not in pairs}


def about_general_sentences(dataset: str, pairs: dict[str, list[str]]) -> str:
    """A note on these pairs."""
    keys = ", ".join(" ".join(pair) for pair in pairs.values())
    return f"Note: there are no sentences for the classes of {dataset}, so teachers use general ones ({keys})."
