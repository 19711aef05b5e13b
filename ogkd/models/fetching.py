"""Installs the pinned revision of BiomedCLIP's weights in the hub's cache or in a plain folder."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

from ogkd.core import UserError, atomic_path, progress, sweep
from ogkd.core.hashes import matches_etag
from ogkd.core.network import trouble
from ogkd.core.places import command
from ogkd.core.transfer import quiet_hub_client, require_space, writing
from ogkd.models.sources import BIOMEDCLIP, OPEN_CLIP_CONFIG, TRANSFORMERS_WEIGHTS, cached, download

TOKENIZERS = ("tokenizer.json", "vocab.txt")  # with either of them the model needs no second repository
NAMES = (*BIOMEDCLIP.required, *BIOMEDCLIP.optional, *BIOMEDCLIP.weights)
COMMAND = f"`{command('download')} weights`"


def install_weights(endpoint: str | None = None, only_check: bool = False, cache: Path | None = None) -> Path:
    """Return the folder of the pinned revision in the hub's cache, after downloading missing or corrupt files.

    Every file is checked by its hash. `cache` replaces the hub's default cache. Raises UserError if files are missing
    or corrupt and cannot be downloaded (or, with `only_check`, may not be).
    """
    from huggingface_hub.constants import HF_HUB_CACHE

    cache = Path(HF_HUB_CACHE) if cache is None else cache
    missing, corrupt = _faults(cache)
    if (missing or corrupt) and not only_check:
        for file in corrupt:
            file.resolve().unlink()
        _fetch(endpoint, cache)
        missing, corrupt = _faults(cache)
    if missing:
        raise UserError(
            f"The hub's cache {cache} lacks {missing[0]} of {BIOMEDCLIP.name} (revision {BIOMEDCLIP.revision}): run "
            f"{COMMAND} on a machine with network access."
        )
    if corrupt:
        raise UserError(f"{corrupt[0]} is corrupt (its hash differs from the hub's): run {COMMAND} again.")
    config = cached(BIOMEDCLIP, [OPEN_CLIP_CONFIG], cache)
    assert config is not None  # otherwise it would be reported as missing
    return config.parent


def export_weights(folder: Path, target: Path) -> None:
    """Copy a cached snapshot to the plain folder `target`, for a machine without network access; weights go last.

    Raises UserError if the disk is too small or `target` holds the weights of another model.
    """
    names = [name for name in NAMES if (folder / name).is_file()]
    other = [n for n in (*BIOMEDCLIP.weights, *TRANSFORMERS_WEIGHTS) if n not in names and (target / n).exists()]
    if other:
        raise UserError(f"The folder {target} has another model's {other[0]}: give --export an empty or new folder.")
    with writing("the weights", target):
        target.mkdir(parents=True, exist_ok=True)
    sweep(target)
    size = sum((folder / name).stat().st_size for name in names)
    require_space(target, size, "the weights of BiomedCLIP", "give --export another folder")
    for name in progress(names, f"Copying to {target}", unit="file"):
        with writing(name, target), atomic_path(target / name) as temporary:
            shutil.copyfile(folder / name, temporary)


def _faults(cache: Path) -> tuple[list[str], list[Path]]:
    """Return the names of the pinned revision's files that the cache lacks, and the paths of those that are corrupt."""
    present = {name: file for name in NAMES if (file := cached(BIOMEDCLIP, [name], cache))}
    needed = [*((name,) for name in BIOMEDCLIP.required), TOKENIZERS, BIOMEDCLIP.weights]
    missing = [" or ".join(names) for names in needed if not any(name in present for name in names)]
    return missing, [file for file in present.values() if not _is_intact(file)]


def _is_intact(file: Path) -> bool:
    """Whether a cached file's content matches its ETag, which is its name in the cache."""
    blob = file.resolve()
    if blob.parent.name != "blobs":  # a cache without links, as on some systems, stores no ETags
        return True
    return matches_etag(blob, blob.name, file.name)


def _fetch(endpoint: str | None, cache: Path) -> None:
    """Download the pinned revision's files to the cache, the weights last and only if there is space for them."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_url
    from huggingface_hub.errors import EntryNotFoundError

    quiet_hub_client()
    with writing("the weights", cache):
        cache.mkdir(parents=True, exist_ok=True)
    with _hub_errors():
        for name in (*BIOMEDCLIP.required, *BIOMEDCLIP.optional):
            download(BIOMEDCLIP, name, cache, endpoint)
        for name in BIOMEDCLIP.weights:
            try:
                url = hf_hub_url(BIOMEDCLIP.name, name, revision=BIOMEDCLIP.revision, endpoint=endpoint)
                announced = get_hf_file_metadata(url)
            except EntryNotFoundError:
                continue
            if announced.commit_hash != BIOMEDCLIP.revision:
                raise UserError(
                    f"The hub sends revision {announced.commit_hash} of {BIOMEDCLIP.name} instead of "
                    f"{BIOMEDCLIP.revision}: check --endpoint and HF_ENDPOINT."
                )
            require_space(cache, announced.size or 0, "the weights of BiomedCLIP", "set HF_HOME to another folder")
            download(BIOMEDCLIP, name, cache, endpoint)
            return
    raise UserError(
        f"Revision {BIOMEDCLIP.revision} of {BIOMEDCLIP.name} has no {' or '.join(BIOMEDCLIP.weights)}: "
        "check --endpoint and HF_ENDPOINT."
    )


@contextlib.contextmanager
def _hub_errors() -> Iterator[None]:
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # the hub's client passes on errors of its HTTP library, which differ by version
        reason, mend = trouble(error)
        raise UserError(
            f"The weights of {BIOMEDCLIP.name} could not be fetched ({reason}): {mend}, and run {COMMAND} again."
        ) from error
