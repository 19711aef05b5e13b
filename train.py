#!/usr/bin/env python3
"""Train or test one method on one data set: the entry point of a run.

The run's folder gets log.txt, config.yaml, split.json, results.json and the learned parameters. A finished run is not
repeated, an unfinished one continues from its last epoch.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence

import torch

import clip
import datasets  # noqa: F401  registers the data sets
import trainers  # noqa: F401  registers the methods
from dassl.engine import TRAINER_REGISTRY, build_trainer
from dassl.utils import UserError, collect_env_info, set_random_seed, setup_logger
from dassl.utils.phases import Phases
from runs.config import build_config
from runs.folder import RunFolder


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--root", default="", help="folder of the data sets")
    p.add_argument("--output-dir", default="", help="folder of this run")
    p.add_argument("--resume", default="", help="run folder to continue from (default: --output-dir itself)")
    p.add_argument("--seed", type=int, default=-1, help="seed of the run; below 0: not seeded")
    p.add_argument("--source-domains", nargs="+", help="kept for code written for Dassl")
    p.add_argument("--target-domains", nargs="+", help="kept for code written for Dassl")
    p.add_argument("--transforms", nargs="+", help="names of the training transforms")
    p.add_argument("--config-file", default="", help="YAML of the method")
    p.add_argument("--dataset-config-file", default="", help="YAML of the data set")
    p.add_argument("--trainer", default="", help=f"one of {', '.join(TRAINER_REGISTRY.registered_names())}")
    p.add_argument("--backbone", default="", help=f"{', '.join(clip.available_models())}, a folder, or hf-hub:org/name")
    p.add_argument("--head", default="", help="kept for code written for Dassl")
    p.add_argument("--eval-only", action="store_true", help="test only")
    p.add_argument("--model-dir", default="", help="run folder whose parameters --eval-only loads")
    p.add_argument("--load-epoch", type=int, help="epoch to load (default: the newest)")
    p.add_argument("--no-train", action="store_true", help="build everything, train nothing")
    p.add_argument("opts", nargs=argparse.REMAINDER, help="KEY VALUE pairs that change the configuration")
    return p


def main(argv: Sequence[str] | None = None) -> dict | None:
    """Run once and return what results.json holds (None with --no-train).

    Raises:
        UserError, clip.ModelError: what a user can mend, in one sentence.
    """
    args = parser().parse_args(argv)
    cfg = build_config(args)
    folder = RunFolder(cfg, args)
    finished = folder.finished_results()
    if finished is not None:
        print(f"{folder.path} is complete: accuracy {finished['accuracy']:.2f} %. Nothing to do.")
        return finished
    folder.prepare()

    restore_output = setup_logger(cfg.OUTPUT_DIR)
    try:
        if cfg.SEED >= 0:
            print(f"Setting fixed seed: {cfg.SEED}")
            set_random_seed(cfg.SEED)
        return _run(cfg, args, folder)
    except (UserError, clip.ModelError) as error:
        print(f"error: {error}", file=folder.log())
        raise
    finally:
        restore_output()


def _run(cfg, args: argparse.Namespace, folder: RunFolder) -> dict | None:
    print(f"{cfg}\n")
    print(f"Collecting environment information\n{collect_env_info()}\n")
    started = time.perf_counter()
    phases = Phases()
    with phases("setup"):
        trainer = build_trainer(cfg)
    folder.write_split(trainer.dm.dataset)
    if args.eval_only:
        trainer.load_model(args.model_dir, epoch=args.load_epoch)
        with phases("test"):
            trainer.test()
    elif args.no_train:
        return None
    else:
        with phases("train and test"):
            trainer.train()
            if not trainer.evaluator.report:
                trainer.test()
    phases.record.update(getattr(trainer, "phases", Phases()).record)
    return folder.write_results(trainer, phases, time.perf_counter() - started)


def command_line(run: Callable[[], object]) -> int:
    """Run a command; what its user can mend becomes one sentence on stderr and exit code 2."""
    try:
        run()
    except (UserError, clip.ModelError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        print(
            f"error: {error.strerror or error}{where}; mend that and run the same command again: "
            f"it continues after the last epoch that was saved.",
            file=sys.stderr,
        )
        return 2
    except torch.cuda.OutOfMemoryError:
        print(
            "error: the GPU's memory is full; use a smaller DATALOADER.TRAIN_X.BATCH_SIZE or FEATURES.IMAGES_AT_ONCE.",
            file=sys.stderr,
        )
        return 2
    except KeyboardInterrupt:
        print("\nInterrupted; the same command continues after the last saved epoch.", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(command_line(main))
