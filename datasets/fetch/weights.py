"""BiomedCLIP's weights: the revision that `clip` loads, in the hub's cache where it looks, or in a plain folder."""

from __future__ import annotations

import contextlib
import hashlib
import shutil
from collections.abc import Iterator
from pathlib import Path

from clip.sources import BIOMEDCLIP, OPEN_CLIP_CONFIG, TRANSFORMERS_WEIGHTS
from dassl.utils import UserError, progress

from .check import git_blob_sha1
from .transfer import brief, require_space, writing

TOKENIZERS = ("tokenizer.json", "vocab.txt")  # one of them makes the model independent of a second repository
NAMES = (*BIOMEDCLIP.required, *BIOMEDCLIP.optional, *BIOMEDCLIP.weights)
AGAIN = "`python scripts/download.py weights`"


def install_weights(endpoint: str | None = None, only_check: bool = False, cache: Path | None = None) -> Path:
    """The folder of the pinned revision in the hub's cache, fetched if need be, every file checked by its hash.

    `cache` is the hub's own one unless given. Damaged files are fetched anew. Raises UserError, in one sentence, when
    the files are absent or damaged and cannot be (or, with `only_check`, shall not be) fetched.
    """
    from huggingface_hub.constants import HF_HUB_CACHE

    cache = Path(HF_HUB_CACHE) if cache is None else cache
    lacking, damaged = _faults(cache)
    if (lacking or damaged) and not only_check:
        for file in damaged:
            file.resolve().unlink()
        _fetch(endpoint, cache)
        lacking, damaged = _faults(cache)
    if lacking:
        raise UserError(
            f"The hub's cache {cache} lacks {lacking[0]} of {BIOMEDCLIP.name} (revision {BIOMEDCLIP.revision}): run "
            f"{AGAIN} where there is a network."
        )
    if damaged:
        raise UserError(f"{damaged[0]} is damaged (it has not the hash that the hub names): run {AGAIN} again.")
    return _cached(OPEN_CLIP_CONFIG, cache).parent


def export_weights(folder: Path, target: Path) -> None:
    """Copy a cached snapshot to the plain folder `target`, for a machine without a network; the weights come last.

    Raises UserError when the disk has no room or `target` has weights of another model.
    """
    names = [name for name in NAMES if (folder / name).is_file()]
    other = [n for n in (*BIOMEDCLIP.weights, *TRANSFORMERS_WEIGHTS) if n not in names and (target / n).exists()]
    if other:
        raise UserError(f"The folder {target} has another model's {other[0]}: give --export an empty or new folder.")
    with writing("the weights", target):
        target.mkdir(parents=True, exist_ok=True)
    size = sum((folder / name).stat().st_size for name in names)
    require_space(target, size, "the weights of BiomedCLIP", "give --export another folder")
    for name in progress(names, f"Copying to {target}", unit="file"):
        temporary = target / f".{name}"
        with writing(name, target):
            shutil.copyfile(folder / name, temporary)
            temporary.replace(target / name)


def _cached(name: str, cache: Path) -> Path | None:
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(BIOMEDCLIP.name, name, cache_dir=cache, revision=BIOMEDCLIP.revision)
    return Path(found) if isinstance(found, str) else None


def _faults(cache: Path) -> tuple[list[str], list[Path]]:
    """What the cache lacks of the pinned revision, and which of its files have not their hash."""
    present = {name: file for name in NAMES if (file := _cached(name, cache)) is not None}
    needed = [*((name,) for name in BIOMEDCLIP.required), TOKENIZERS, BIOMEDCLIP.weights]
    lacking = [" or ".join(names) for names in needed if not any(name in present for name in names)]
    return lacking, [file for file in present.values() if not _is_whole(file)]


def _is_whole(file: Path) -> bool:
    """Whether a cached file has the hash by which the cache names its content: SHA-256 if large, else git's."""
    blob = file.resolve()
    if blob.parent.name != "blobs":  # a cache without links, as on some systems
        return True
    if len(blob.name) == 40:
        return git_blob_sha1(blob.read_bytes()) == blob.name
    digest, size = hashlib.sha256(), blob.stat().st_size
    with open(blob, "rb") as content, progress(None, f"Checking {file.name}", total=size, unit="B") as bar:
        while chunk := content.read(1 << 20):
            digest.update(chunk)
            bar.update(len(chunk))
    return len(blob.name) != 64 or digest.hexdigest() == blob.name


def _fetch(endpoint: str | None, cache: Path) -> None:
    """Bring the pinned revision's files into the cache, the weights last, when there is room for them."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url
    from huggingface_hub.errors import EntryNotFoundError

    pinned = {"revision": BIOMEDCLIP.revision, "endpoint": endpoint}
    with writing("the weights", cache):
        cache.mkdir(parents=True, exist_ok=True)
    with _hub_errors():
        for name in (*BIOMEDCLIP.required, *BIOMEDCLIP.optional):
            with contextlib.suppress(EntryNotFoundError):
                hf_hub_download(BIOMEDCLIP.name, name, cache_dir=cache, **pinned)
    for name in BIOMEDCLIP.weights:
        with _hub_errors():
            try:
                told = get_hf_file_metadata(hf_hub_url(BIOMEDCLIP.name, name, **pinned))
            except EntryNotFoundError:
                continue
        if told.commit_hash != BIOMEDCLIP.revision:
            raise UserError(
                f"The hub gives revision {told.commit_hash} of {BIOMEDCLIP.name} instead of {BIOMEDCLIP.revision}: "
                "check --endpoint and HF_ENDPOINT."
            )
        require_space(cache, told.size or 0, "the weights of BiomedCLIP", "set HF_HOME to another folder")
        with _hub_errors():
            hf_hub_download(BIOMEDCLIP.name, name, cache_dir=cache, **pinned)
        return
    raise UserError(
        f"Revision {BIOMEDCLIP.revision} of {BIOMEDCLIP.name} has no {' or '.join(BIOMEDCLIP.weights)}: "
        "check --endpoint and HF_ENDPOINT."
    )


@contextlib.contextmanager
def _hub_errors() -> Iterator[None]:
    from huggingface_hub.errors import EntryNotFoundError

    try:
        yield
    except EntryNotFoundError:
        raise
    except Exception as error:  # the hub's client lets its HTTP library's errors through, which differ by version
        raise UserError(
            f"The weights of {BIOMEDCLIP.name} could not be fetched ({brief(error)}): run {AGAIN} again when the "
            "network is there, it goes on where it stopped."
        ) from error
