"""Installs the weights of a named model in the hub's cache or in a plain folder."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from ogkd.core import UserError, atomic_path, progress, sweep, write_json
from ogkd.core.hashes import matches_etag
from ogkd.core.places import command
from ogkd.core.transfer import quiet_hub_client, require_space, writing
from ogkd.models.named import (
    OPEN_CLIP_WEIGHTS,
    SOURCE,
    TOKENIZER_FILES,
    TRANSFORMERS_WEIGHTS,
    VOCABULARIES,
    NamedModel,
    Repository,
)
from ogkd.models.sources import cached, download, refusal


def install_weights(
    model: NamedModel, endpoint: str | None = None, only_check: bool = False, cache: Path | None = None
) -> Path:
    """Return the folder of the model's files in the hub's cache, after downloading missing or corrupt ones.

    The revision is the pinned one, else the newest. Every file is checked by its hash. `cache` replaces the hub's
    default cache. Raises UserError if files are missing or corrupt and cannot be downloaded (or, with `only_check`, may
    not be).
    """
    from huggingface_hub.constants import HF_HUB_CACHE

    cache = Path(HF_HUB_CACHE) if cache is None else cache
    repository, again = model.on_hub(), f"`{command('download')} weights {model.name}`"
    missing, corrupt = _faults(model, cache)
    if (missing or corrupt) and not only_check:
        for file in corrupt:
            file.resolve().unlink()
        _fetch(model, endpoint, cache)
        missing, corrupt = _faults(model, cache)
    if missing:
        of = f" (revision {repository.revision})" if repository.revision else ""
        raise UserError(
            f"The hub's cache {cache} lacks {missing[0]} of {repository.name}{of}: run {again} on a machine with "
            "network access."
        )
    if corrupt:
        raise UserError(f"{corrupt[0]} is corrupt (its hash differs from the hub's): run {again} again.")
    weights = cached(repository, repository.weights, cache)
    assert weights is not None  # otherwise it would be reported as missing
    return weights.parent


def export_weights(model: NamedModel, folder: Path, target: Path) -> None:
    """Copy a cached snapshot to the plain folder `target`, for a machine without network access; weights go last, and
    a record of their revision. Weights without a configuration are converted.

    Raises UserError if the disk is too small or `target` holds the weights of another model.
    """
    repository = model.on_hub()
    if repository.checkpoint:
        from ogkd.models.convert import convert

        convert(folder / model.weights, model.name, target, revision=folder.name)
        return
    all_files = [*repository.required, *(n for names in repository.choices for n in names), *repository.optional]
    names = [name for name in (*all_files, *repository.weights) if (folder / name).is_file()]
    others = {*OPEN_CLIP_WEIGHTS, *TRANSFORMERS_WEIGHTS} - set(names)
    if other := next((name for name in sorted(others) if (target / name).exists()), ""):
        raise UserError(f"The folder {target} has another model's {other}: give --export an empty or new folder.")
    with writing("the weights", target):
        target.mkdir(parents=True, exist_ok=True)
    sweep(target)
    size = sum((folder / name).stat().st_size for name in names)
    require_space(target, size, f"the weights of {model.name}", "give --export another folder")
    for name in progress(names, f"Copying to {target}", unit="file"):
        with writing(name, target), atomic_path(target / name) as temporary:
            shutil.copyfile(folder / name, temporary)
    with writing(SOURCE, target):
        write_json(source_record(model, folder.name), target / SOURCE)


def source_record(model: NamedModel, revision: str | None) -> dict:
    """The content of SOURCE, which says from where the weights beside it come."""
    return {"name": model.name, "repository": model.repository, "revision": revision}


def _tokenizer(model: NamedModel) -> Repository:
    """The repository to take the tokenizer from if that of the weights has none."""
    return Repository(model.tokenizer or model.repository, (), VOCABULARIES, TOKENIZER_FILES)


def _faults(model: NamedModel, cache: Path) -> tuple[list[str], list[Path]]:
    """Return the names of the model's files that the cache lacks, and the paths of those that are corrupt."""
    repository, tokenizer = model.on_hub(), _tokenizer(model)
    needed = [*((name,) for name in repository.required), *repository.choices, repository.weights]
    missing = [" or ".join(names) for names in needed if cached(repository, names, cache) is None]
    own = cached(repository, VOCABULARIES, cache)
    if model.has_vocabulary and not own and cached(tokenizer, VOCABULARIES, cache) is None:
        missing.append(f"the tokenizer ({' or '.join(VOCABULARIES)})")
    every = {*(name for names in needed for name in names), *repository.optional}
    files = [cached(repository, [name], cache) for name in sorted(every)]
    files += [cached(tokenizer, [name], cache) for name in TOKENIZER_FILES if model.has_vocabulary and not own]
    return missing, [file for file in files if file and not _is_intact(file)]


def _is_intact(file: Path) -> bool:
    """Whether a cached file's content matches its ETag, which is its name in the cache."""
    blob = file.resolve()
    if blob.parent.name != "blobs":  # a cache without links, as on some systems, stores no ETags
        return True
    return matches_etag(blob, blob.name, file.name)


def _fetch(model: NamedModel, endpoint: str | None, cache: Path) -> None:
    """Download the model's files to the cache, the weights last and only if there is space for them."""
    repository, tokenizer = model.on_hub(), _tokenizer(model)
    quiet_hub_client()
    with writing("the weights", cache):
        cache.mkdir(parents=True, exist_ok=True)
    with _hub_errors(model, repository):
        _check_weights(model, repository, endpoint, cache)
        for name in (*repository.required, *(n for names in repository.choices for n in names), *repository.optional):
            download(repository, name, cache, endpoint)
        any(download(repository, name, cache, endpoint) for name in repository.weights)
    if model.has_vocabulary and cached(repository, VOCABULARIES, cache) is None:
        with _hub_errors(model, tokenizer):
            for name in TOKENIZER_FILES:
                download(tokenizer, name, cache, endpoint)


def _check_weights(model: NamedModel, repository: Repository, endpoint: str | None, cache: Path) -> None:
    """Raise UserError unless the hub has weights of the pinned revision, and the disk has space for them."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_url
    from huggingface_hub.errors import EntryNotFoundError

    for name in repository.weights:
        place = {"revision": repository.revision, "repo_type": repository.kind}
        try:
            announced = get_hf_file_metadata(hf_hub_url(repository.name, name, endpoint=endpoint, **place))
        except EntryNotFoundError:
            continue
        if repository.revision and announced.commit_hash != repository.revision:
            raise UserError(
                f"The hub sends revision {announced.commit_hash} of {repository.name} instead of "
                f"{repository.revision}: check --endpoint and HF_ENDPOINT."
            )
        before, is_hub, _ = urlsplit(announced.location).path.partition("/resolve/")
        if is_hub and not before.endswith(f"/{repository.name}"):
            print(f"{repository.name} is now called {before.strip('/')} on the hub; its files are fetched from there.")
        require_space(cache, announced.size or 0, f"the weights of {model.name}", "set HF_HOME to another folder")
        return
    of = f"Revision {repository.revision} of {repository.name}" if repository.revision else repository.name
    raise UserError(f"{of} has no {' or '.join(repository.weights)}: check --endpoint and HF_ENDPOINT.")


@contextlib.contextmanager
def _hub_errors(model: NamedModel, repository: Repository) -> Iterator[None]:
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # the hub's client passes on errors of its HTTP library, which differ by version
        reason, mend = refusal(repository, error)
        raise UserError(
            f"The weights of {repository.name} could not be fetched ({reason}): {mend}, and run "
            f"`{command('download')} weights {model.name}` again."
        ) from error
