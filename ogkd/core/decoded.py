"""Decoded images in memory, for the epochs and runs of this process that read the same files again."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from PIL import Image

from ogkd.core.hashes import stamp
from ogkd.core.images import read_image
from ogkd.core.memory import available_bytes
from ogkd.core.progress import progress

READERS = 4
UNKNOWN_MEMORY = 4e9  # bytes that are taken to be available where the system does not say


class Decoded(NamedTuple):
    """An RGB image of 8 bits, and its file's signature before it was read."""

    signature: tuple[int, ...]
    size: tuple[int, int]
    pixels: bytes


class DecodedImages:
    """Images as `read_image` returns them, 3 bytes per pixel, while their files are unchanged.

    Those used least recently make room for those of another set.
    """

    def __init__(self) -> None:
        self.used = 0  # bytes
        self._images: OrderedDict[tuple[str, int], Decoded] = OrderedDict()
        self._sets: set[int] = set()

    def are_read_again(self, paths: Collection[str]) -> bool:
        """Whether this is not the first time that these images are gone through."""
        number, first = hash(tuple(paths)), len(self._sets)
        self._sets.add(number)
        return len(self._sets) == first

    def read(self, path: str, frame: int) -> Image.Image:
        """An image as `read_image` returns it: a copy of the one in memory, else from its file.

        Raises:
            UserError: the image cannot be read.
        """
        if not self._is_current(path, frame):
            return read_image(path, frame)
        self._images.move_to_end((path, frame))
        decoded = self._images[path, frame]
        return Image.frombytes("RGB", decoded.size, decoded.pixels)

    def keep(self, paths: Collection[str], frame: int, share: float) -> float:
        """Decode the images of a set that are not in memory yet, if the set fits into this share of what is available.
        Return the bytes that it would take if not; 0 if it fits."""
        paths = list(dict.fromkeys(paths))
        waiting = [path for path in paths if not self._is_current(path, frame)]
        if not waiting or not share:
            return 0
        width, height = read_image(waiting[0], frame).size  # the others are taken to be as large
        needed = 3 * width * height * len(paths)
        if needed > self._room(share):
            return needed
        own = {(path, frame) for path in paths}
        with ThreadPoolExecutor(READERS) as pool:
            images = pool.map(lambda path: _decoded(path, frame), waiting)
            for path, decoded in zip(waiting, progress(images, "decode images", len(waiting), "image"), strict=True):
                self._put((path, frame), decoded, share, own)
        return 0

    def _is_current(self, path: str, frame: int) -> bool:
        known = self._images.get((path, frame))
        return known is not None and known.signature == stamp(path)

    def _room(self, share: float) -> float:
        """How many bytes of images may be in memory. Processes side by side leave each other the rest."""
        available = available_bytes()
        return share * ((UNKNOWN_MEMORY if math.isinf(available) else available) + self.used)

    def _put(self, key: tuple[str, int], decoded: Decoded, share: float, own: set[tuple[str, int]]) -> None:
        self._remove(key)
        size, room = len(decoded.pixels), self._room(share)
        while self.used + size > room and self._images and (oldest := next(iter(self._images))) not in own:
            self._remove(oldest)
        if self.used + size <= room:
            self._images[key] = decoded
            self.used += size

    def _remove(self, key: tuple[str, int]) -> None:
        if (former := self._images.pop(key, None)) is not None:
            self.used -= len(former.pixels)


DECODED = DecodedImages()


def _decoded(path: str, frame: int) -> Decoded:
    before = stamp(path)
    image = read_image(path, frame)
    return Decoded(before, image.size, image.tobytes())
