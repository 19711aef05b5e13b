"""Groups of images by what is known of them, such as sex, site or device: groups_<name>.json beside a split,
{image: {column: value}}."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from ogkd.core.places import command
from ogkd.core.schema import Rule, read_record
from ogkd.data.splits import split_file

NOT_GIVEN = "not given"
Groups = Mapping[str, Mapping[str, str]]  # image -> column -> value
_RECORD = Rule(
    lambda of: all(isinstance(text, str) for image, one in of.items() for text in (image, *one, *one.values())),
    "an object of columns and values by image",
)


def read_groups(folder: str | Path) -> Groups:
    """Read what is recorded of a folder of images; {} if nothing is. Raises UserError for a corrupt file."""
    path = split_file(folder, "groups")
    return read_record(path, _RECORD, f"make it again with `{command('split')}`") if path.is_file() else {}


def by_column(groups: Groups, images: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """The value of each image by column; an image without one is in the group NOT_GIVEN. A column without any value for
    these images is left out."""
    columns = dict.fromkeys(column for of in groups.values() for column in of)
    values = {column: tuple(groups.get(image, {}).get(column) or NOT_GIVEN for image in images) for column in columns}
    return {column: of for column, of in values.items() if {*of} != {NOT_GIVEN}}
