"""A data set: lists of images with labels for training, validation and test."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import cast

from ogkd.core import MissingFile, UserError, WrongValue


class Datum:
    """One image: its path, label, domain and class name.

    Raises MissingFile when the file does not exist. `Datum.of_known` is for files that have been checked already.
    """

    def __init__(self, impath: str = "", label: int = 0, domain: int = 0, classname: str = "") -> None:
        if not isinstance(impath, str):
            raise TypeError(f"impath must be a string, not {type(impath).__name__}")
        if not Path(impath).is_file():
            raise MissingFile(f"The image {impath} of class {classname!r} is not there: put it there, or leave it out.")
        self._impath, self._label, self._domain, self._classname = impath, label, domain, classname

    @classmethod
    def of_known(cls, impath: str = "", label: int = 0, domain: int = 0, classname: str = "") -> Datum:
        """Make a Datum without looking for its file, which a folder listing has found or which is never read."""
        datum = cls.__new__(cls)
        datum._impath, datum._label, datum._domain, datum._classname = impath, label, domain, classname
        return datum

    @property
    def impath(self) -> str:
        return self._impath

    @property
    def label(self) -> int:
        return self._label

    @property
    def domain(self) -> int:
        return self._domain

    @property
    def classname(self) -> str:
        return self._classname

    def __repr__(self) -> str:
        return f"Datum({self.impath!r}, label={self.label}, domain={self.domain}, classname={self.classname!r})"


class DatasetBase:
    """Base of all data sets; the parts are lists of Datum (val and train_u may be absent)."""

    dataset_dir = ""
    domains: Sequence[str] = ()

    def __init__(
        self,
        train_x: list[Datum] | None = None,
        train_u: list[Datum] | None = None,
        val: list[Datum] | None = None,
        test: list[Datum] | None = None,
    ) -> None:
        self.train_x, self.train_u, self.val, self.test = cast("list[Datum]", train_x), train_u, val, test
        self.num_classes = self.get_num_classes(self.train_x)
        self.lab2cname, self.classnames = self.get_lab2cname(self.train_x)

    def image_paths(self) -> list[str]:
        """The files of all images, each once; images without a file are left out."""
        items = [item for part in (self.train_x, self.train_u, self.val, self.test) for item in part or ()]
        return list(dict.fromkeys(item.impath for item in items if item.impath))

    @staticmethod
    def get_num_classes(data_source: Sequence[Datum]) -> int:
        """The largest label plus one."""
        return max(item.label for item in data_source) + 1

    @staticmethod
    def get_lab2cname(data_source: Sequence[Datum]) -> tuple[dict[int, str], list[str]]:
        """Label -> class name, and the class names in order of label."""
        mapping = {item.label: item.classname for item in data_source}
        return mapping, [mapping[label] for label in sorted(mapping)]

    def check_input_domains(self, source_domains: Sequence[str], target_domains: Sequence[str]) -> None:
        """Check that source and target domains are given and belong to this data set."""
        for name, domains in (("SOURCE", source_domains), ("TARGET", target_domains)):
            if not domains:
                raise WrongValue(f"This data set needs DATASET.{name}_DOMAINS; it has {', '.join(self.domains)}.")
            self.is_input_domain_valid(domains)

    def is_input_domain_valid(self, input_domains: Sequence[str]) -> None:
        """Check that the domains belong to this data set."""
        for domain in input_domains:
            if domain not in self.domains:
                raise WrongValue(f"There is no domain '{domain}' in this data set; it has {', '.join(self.domains)}.")

    def download_data(self, url: str, dst: str, from_gdrive: bool = True) -> None:
        """Raise UserError with the address: data sets are not downloaded from here."""
        raise UserError(f"This data set is missing and not downloaded automatically: get {url} and put it at {dst}.")

    def generate_fewshot_dataset(
        self, *data_sources: list[Datum], num_shots: int = -1, repeat: bool = False
    ) -> list[Datum] | list[list[Datum]]:
        """Draw num_shots items per label with Python's random; below 1 all items are kept.

        A class with fewer items contributes all of them or, with `repeat`, num_shots with repetitions.
        """
        if num_shots < 1:
            return data_sources[0] if len(data_sources) == 1 else list(data_sources)
        print(f"Creating a {num_shots}-shot dataset")
        output = []
        for source in data_sources:
            chosen: list[Datum] = []
            for items in self.split_dataset_by_label(source).values():
                if len(items) >= num_shots:
                    chosen += random.sample(items, num_shots)
                else:
                    chosen += random.choices(items, k=num_shots) if repeat else items
            output.append(chosen)
        return output[0] if len(output) == 1 else output

    def split_dataset_by_label(self, data_source: Sequence[Datum]) -> dict[int, list[Datum]]:
        """Group items by label, in the order in which the labels first appear."""
        output = defaultdict(list)
        for item in data_source:
            output[item.label].append(item)
        return output

    def split_dataset_by_domain(self, data_source: Sequence[Datum]) -> dict[int, list[Datum]]:
        """Group items by domain, in the order in which the domains first appear."""
        output = defaultdict(list)
        for item in data_source:
            output[item.domain].append(item)
        return output
