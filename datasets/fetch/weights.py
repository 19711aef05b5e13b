"""BiomedCLIP's weights in the hub's cache, where the models are looked for, or copied to a plain folder."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

from dassl.utils import UserError, progress

from .transfer import require_space, writing

REPOSITORY = "microsoft/BiomedCLIP-PubMedBERT_256-vit_base_patch16_224"
REVISION = "9f341de24bfb00180f1b847274256e9b65a3a32e"
REQUIRED = ("open_clip_config.json", "open_clip_pytorch_model.bin", "tokenizer.json")
OPTIONAL = ("tokenizer_config.json", "special_tokens_map.json", "vocab.txt", "config.json")
SIZE = 800_000_000  # bytes, about


def install_weights(endpoint: str | None = None, only_check: bool = False, cache: Path | None = None) -> Path:
    """The folder of the pinned revision in the hub's cache, fetched if need be, with every file's hash checked.

    The cache's "main" is set to the pinned revision where it names none, so that the model is found without a network.
    Raises UserError when the files are absent and cannot be fetched, or damaged.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.constants import HF_HUB_CACHE

    cache = Path(HF_HUB_CACHE) if cache is None else cache
    wanted = [*REQUIRED, *OPTIONAL]
    arguments = {"revision": REVISION, "allow_patterns": wanted, "endpoint": endpoint, "cache_dir": cache}
    try:
        folder = Path(snapshot_download(REPOSITORY, local_files_only=True, **arguments))
        present = all((folder / name).is_file() for name in REQUIRED)
    except (OSError, ValueError):  # nothing of that revision in the cache
        present = False
    if not present and only_check:
        raise UserError(
            f"The weights of {REPOSITORY} (revision {REVISION}) are not in {cache}: run `python "
            "scripts/download.py weights` where there is a network."
        )
    if not present:
        with writing("the weights", cache):
            cache.mkdir(parents=True, exist_ok=True)
        require_space(cache, SIZE, "the weights of BiomedCLIP")
        try:
            folder = Path(snapshot_download(REPOSITORY, **arguments))
        except Exception as error:  # the hub's client lets its HTTP library's errors through, which differ by version
            raise UserError(
                f"The weights of {REPOSITORY} could not be fetched ({_brief(error)}): run this again when the network "
                "is there, it goes on where it stopped."
            ) from error
    absent = [name for name in REQUIRED if not (folder / name).is_file()]
    if absent:
        raise UserError(f"Revision {REVISION} of {REPOSITORY} has no {absent[0]}: check --endpoint and HF_ENDPOINT.")
    for name in REQUIRED:
        _check_hash(folder / name)
    main = folder.parents[1] / "refs" / "main"
    if not main.exists():
        with writing("the cache's refs", main.parent):
            main.parent.mkdir(parents=True, exist_ok=True)
            main.write_text(REVISION, encoding="utf-8")
    elif (other := main.read_text(encoding="utf-8").strip()) != REVISION:
        print(f"The cache's main revision of {REPOSITORY} is {other}, which is what the name BiomedCLIP loads.")
    return folder


def export_weights(folder: Path, target: Path) -> None:
    """Copy a cached snapshot to the plain folder `target`, for a machine without a network; the weights come last."""
    names = [name for name in (*OPTIONAL, *REQUIRED) if (folder / name).is_file()]
    names.sort(key=lambda name: name.endswith(".bin"))
    with writing("the weights", target):
        target.mkdir(parents=True, exist_ok=True)
    require_space(target, sum((folder / name).stat().st_size for name in names), "the weights")
    for name in progress(names, f"Copying to {target}", unit="file"):
        temporary = target / f".{name}"
        with writing(name, target):
            shutil.copyfile(folder / name, temporary)
            temporary.replace(target / name)
    with writing("REVISION", target):
        (target / "REVISION").write_text(f"{REPOSITORY} {REVISION}\n", encoding="utf-8")


def _check_hash(file: Path) -> None:
    """The cache names a large file's content by its SHA-256; compare. Raises UserError when it is another."""
    blob = file.resolve()
    if len(blob.name) != 64 or blob.parent.name != "blobs":
        return  # a small file, named by git's hash, or a cache without links
    digest = hashlib.sha256()
    with (
        open(blob, "rb") as content,
        progress(None, f"Checking {file.name}", total=blob.stat().st_size, unit="B") as bar,
    ):
        while chunk := content.read(1 << 20):
            digest.update(chunk)
            bar.update(len(chunk))
    if digest.hexdigest() != blob.name:
        raise UserError(f"The weights file {blob} is damaged: delete it and run `python scripts/download.py weights`.")


def _brief(error: Exception) -> str:
    return " ".join(str(error).split())[:200].rstrip(".:") or type(error).__name__
