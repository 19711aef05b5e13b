"""Training that survives: checkpoints, resuming bit for bit, and checks that every number is finite.

These are mixins for Dassl's trainers, this project's and upstream's: they need only the attributes that both have. A
run that is killed and resumed from a checkpoint gives the same result as an uninterrupted one, bit for bit. With
TRAIN.RESEED_EPOCHS the generators are reseeded for each epoch, from the seed and the epoch alone; without it they run
on through the epochs as in Dassl, and checkpoints store their states. Training that diverges raises `Diverged`: the
loss and its terms are checked before each step, the parameters before each checkpoint and the logits before evaluation.
"""

from __future__ import annotations

import datetime
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from yacs.config import CfgNode

from ogkd.core.checkpoints import checkpoints_in
from ogkd.core.errors import Diverged, UserError
from ogkd.core.progress import progress
from ogkd.core.seeds import derived_seed
from ogkd.core.torchtools import (
    load_checkpoint,
    name_checkpoint,
    random_states,
    restore,
    restore_random_states,
    save_checkpoint,
    schedule_state,
    set_random_seed,
)


class Checkpoints:
    """What a trainer's registered models save, load and must be: finite.

    Names that Dassl's class does not have begin with "_", so that a trainer may use any other for itself.
    """

    _models: dict[str, nn.Module]
    _optims: dict[str, Any]
    _scheds: dict[str, Any]
    get_model_names: Any
    epoch: int
    best_result: float
    # The mean training loss of the first and of the latest epoch, "first_loss" and "last_loss": None where it is not
    # known, empty before the first epoch. Saved in checkpoints.
    _mean_losses: dict[str, float | None] = {}  # noqa: RUF012  replaced, never changed

    def _checkpoint_meta(self) -> dict:
        """Return plain values to save with a checkpoint, such as the settings that produced it."""
        return {}

    def _checkpoint_random_states(self) -> dict | None:
        """Return the generators' states for the next epoch; None where the epoch does not depend on them."""
        return None

    def _own_progress(self) -> dict:
        """Return what else of the training a checkpoint must hold, as plain values and tensors."""
        return {}

    def _resume_own_progress(self, state: Mapping[str, Any]) -> None:
        """Restore what `_own_progress` returned, from a checkpoint."""

    def save_model(
        self, epoch: int, directory: str, is_best: bool = False, val_result: float | None = None, model_name: str = ""
    ) -> None:
        """Save every model after `epoch` (from 0) as <directory>/<name>/model.pth.tar-<epoch + 1>.

        Raises:
            Diverged: a learned parameter is not finite; nothing is saved.
        """
        self._check_parameters()
        for name in self.get_model_names():
            optim, sched = self._optims[name], self._scheds[name]
            save_checkpoint(
                {
                    "state_dict": self._models[name].state_dict(),
                    "epoch": epoch + 1,
                    "optimizer": None if optim is None else optim.state_dict(),
                    "scheduler": None if sched is None else schedule_state(sched),
                    "val_result": val_result,
                    "training": self._mean_losses,
                    "meta": self._checkpoint_meta(),
                    "random_states": self._checkpoint_random_states(),
                }
                | self._own_progress(),
                str(Path(directory) / name),
                is_best=is_best,
                model_name=model_name,
            )

    def _remove_older_checkpoints(self, epoch: int, directory: str) -> None:
        """Remove the numbered checkpoints before `epoch` (from 0)."""
        for name in self.get_model_names():
            for number, path in checkpoints_in(Path(directory) / name).items():
                if number < epoch + 1:
                    path.unlink()

    def resume_model_if_exist(self, directory: str) -> int:
        """Restore the newest epoch for which every model has an intact checkpoint; return the next epoch, or 0."""
        names = self.get_model_names()
        checkpoints = {name: checkpoints_in(Path(directory) / name) for name in names}
        common = set.intersection(*(set(of_name) for of_name in checkpoints.values())) if names else set()
        for epoch in sorted(common, reverse=True):
            try:
                loaded = {name: self._load_finite(name, checkpoints[name][epoch]) for name in names}
            except UserError as error:
                print(f"Warning: {error} Trying the one before.")
                continue
            for name in names:
                path = str(checkpoints[name][epoch])
                self._check_checkpoint_meta(path, loaded[name].get("meta") or {})
                loaded[name]["state_dict"] = self._own_state(name, loaded[name]["state_dict"])
                restore(loaded[name], self._models[name], self._optims[name], self._scheds[name], path)
                if loaded[name].get("random_states") is not None:
                    restore_random_states(loaded[name]["random_states"])
            losses = loaded[names[0]].get("training")  # empty without a loss; Dassl's checkpoints have none
            self._mean_losses = {"first_loss": None} if losses is None else dict(losses)
            self._resume_own_progress(loaded[names[0]])
            self._resume_best(directory, names)
            print(f"Found checkpoint at {directory} (will resume training)")
            print(f"Resuming after epoch {epoch} from {directory}")
            return epoch
        print("No checkpoint found, train from scratch")
        return 0

    def _load_finite(self, name: str, path: Path) -> dict:
        """Load a model's checkpoint. Raises UserError if it cannot be loaded or holds parameters that are not
        finite."""
        checkpoint = load_checkpoint(str(path))
        broken = self._broken_parameter(name, checkpoint["state_dict"])
        if broken is not None:
            raise UserError(
                f"The checkpoint {path} is from training that diverged (its {broken} is not finite): train again with "
                f"a lower OPTIM.LR."
            )
        return checkpoint

    def _trained(self, name: str) -> set[str]:
        """Return the names of a model's trained parameters."""
        return {key for key, value in self._models[name].named_parameters() if value.requires_grad}

    def _broken_parameter(self, name: str, state: Mapping[str, Tensor]) -> str | None:
        """Return the first of a model's trained parameters that is not finite in a state, or None."""
        trained = self._trained(name)
        return not_finite({key: value for key, value in state.items() if key in trained})

    def _resume_best(self, directory: str, names: list[str]) -> None:
        """Restore the best validation result so far, for runs that keep the best model."""
        best = Path(directory) / names[0] / "model-best.pth.tar"
        if best.is_file():
            try:
                result = self._load_finite(names[0], best).get("val_result")
            except UserError as error:
                print(f"Warning: {error} The next best epoch replaces it.")
                return
            self.best_result = self.best_result if result is None else result

    def _own_state(self, name: str, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the part of a checkpoint's state_dict that a model resumes from: all of it unless overridden."""
        return state

    def _check_checkpoint_meta(self, path: str, meta: dict) -> None:
        """Raise UserError if a checkpoint was not written by this trainer."""

    def load_model(self, directory: str, epoch: int | None = None) -> None:
        """Load the models' weights from a run folder: those of `epoch`, or the best ones.

        Raises:
            UserError: there is no such checkpoint, or it is from training that diverged.
        """
        if not directory:
            print(
                "Note that load_model() is skipped as no pretrained model is given "
                "(ignore this if it's done on purpose)"
            )
            return
        file = f"model.pth.tar-{epoch}" if epoch else "model-best.pth.tar"
        for name in self.get_model_names():
            path = Path(directory) / name / file
            checkpoint = self._load_finite(name, path)
            print(f"Load {path} to {name} (epoch={checkpoint['epoch']}, val_result={checkpoint.get('val_result')})")
            restore(checkpoint, self._models[name], origin=str(path))

    # What must be finite

    def _diverged(self, what: str, term: str, when: str = "") -> Diverged:
        """Make the error for a `what` (called `term`) that is not finite; by default it points to this step."""
        epoch, step = getattr(self, "epoch", -1) + 1, getattr(self, "batch_idx", -1) + 1
        place = when or (f"in epoch {epoch}, step {step}" if epoch and step else "")
        return Diverged(
            f"The training of {type(self).__name__} diverged: {f'{place} ' if place else ''}{what} is not finite; "
            f"{self._remedy(term)}.",
            epoch,
            step,
            term,
        )

    def _remedy(self, term: str) -> str:
        """Say what to change when `term` is not finite."""
        return "lower the learning rate"

    def detect_anomaly(self, loss: Tensor | Mapping[str, Tensor]) -> None:
        """Raise Diverged unless the loss, or each of its named terms, is finite. The device is synchronised once,
        however many terms there are."""
        self._check_term(not_finite(loss if isinstance(loss, Mapping) else {"loss": loss}))

    def _check_terms(self, values: Mapping[str, float]) -> None:
        """Raise Diverged unless each of a step's named numbers is finite."""
        self._check_term(next((name for name, value in values.items() if not math.isfinite(value)), None))

    def _check_term(self, name: str | None) -> None:
        if name is not None:
            raise self._diverged("the loss" if name == "loss" else f"the term '{name}'", name)

    def _check_parameters(self) -> None:
        """Raise Diverged unless every trained parameter is finite."""
        for name in self.get_model_names():
            broken = self._broken_parameter(name, self._models[name].state_dict())
            if broken is not None:
                when = f"after epoch {self.epoch + 1}" if hasattr(self, "epoch") else ""
                raise self._diverged(f"the parameter {name}.{broken}", f"{name}.{broken}", when)

    def _check_logits(self, logits: Tensor) -> Tensor:
        """Return the logits. Raises Diverged unless they are finite."""
        if not torch.isfinite(logits).all():
            raise self._diverged("a logit of the test images", "logits", f"after epoch {self.epoch + 1}")
        return logits


class RobustTraining(Checkpoints):
    """The hooks of a loop over epochs, for a trainer with a configuration `cfg`."""

    cfg: CfgNode
    output_dir: str
    run_epoch: Any
    start_epoch: int
    max_epoch: int
    test: Any
    init_writer: Any
    close_writer: Any

    def _checkpoint_meta(self) -> dict:
        """Return the names of the classes, in the order of their labels."""
        return {"classes": [name for _, name in sorted(getattr(self, "lab2cname", {}).items())]}

    def _remedy(self, term: str) -> str:
        """Suggest a lower learning rate, or a lower weight if the method has an option that ends with the term's
        name."""
        method = self.cfg.TRAINER.NAME.upper()
        options = self.cfg.TRAINER.get(method, {})
        weight = next((name for name in options if name.split("_")[-1] == term.upper()), None)
        lower = f"lower OPTIM.LR (it is {self.cfg.OPTIM.LR:g})"
        return f"{lower} or TRAINER.{method}.{weight} (it is {options[weight]:g})" if weight else lower

    def train(self) -> None:
        self.before_train()
        epoch = self.epoch = self.start_epoch  # which `before_train` may have changed
        with progress(None, "train", total=self.max_epoch, unit="epoch") as bar:
            bar.update(epoch)
            while epoch < self.max_epoch:  # an epoch may lower it to be the last one
                self.epoch = epoch
                self.before_epoch()
                self.run_epoch()
                self.after_epoch()
                epoch += 1
                bar.update(1)
        self._check_parameters()
        self.after_train()

    def before_train(self) -> None:
        self.start_epoch = self.resume_model_if_exist(self.cfg.RESUME or self.output_dir)
        if self.cfg.RESUME and not self.start_epoch:
            raise UserError(
                f"{self.cfg.RESUME} holds no checkpoint that this run can resume from: name a run folder that has one, "
                f"or leave out --resume to train from scratch."
            )
        if self.start_epoch:
            self._complete_last_save()
        self.init_writer(str(Path(self.output_dir) / "tensorboard"))
        self.time_start = time.time()

    def _complete_last_save(self) -> None:
        """Finish what follows a save, in case the run was killed in between."""
        for name in self.get_model_names():
            folder = Path(self.output_dir) / name
            if self.start_epoch in checkpoints_in(folder):
                name_checkpoint(folder, f"model.pth.tar-{self.start_epoch}")
        if not self.cfg.TRAIN.KEEP_CHECKPOINTS:
            self._remove_older_checkpoints(self.start_epoch - 1, self.output_dir)

    def after_train(self) -> None:
        print("Finish training")
        if not self.cfg.TEST.NO_TEST:
            if self.cfg.TEST.FINAL_MODEL == "best_val":
                print("Deploy the model with the best val performance")
                self.load_model(self.output_dir)
            else:
                print("Deploy the last-epoch model")
            self.test()
        print(f"Elapsed: {datetime.timedelta(seconds=round(time.time() - self.time_start))}")
        self.close_writer()

    def before_epoch(self) -> None:
        if self.cfg.SEED >= 0 and self.cfg.TRAIN.RESEED_EPOCHS:
            seed = derived_seed(self.cfg.SEED, self.epoch)
            set_random_seed(seed)
            for name in ("train_loader_x", "train_loader_u"):  # a trainer that builds its own loaders may lack either
                dataset = getattr(getattr(self, name, None), "dataset", None)
                if dataset is not None:
                    dataset.epoch_seed = seed

    def _checkpoint_random_states(self) -> dict | None:
        return random_states() if self.cfg.SEED >= 0 and not self.cfg.TRAIN.RESEED_EPOCHS else None

    def after_epoch(self) -> None:
        cfg, last = self.cfg, self.epoch + 1 == self.max_epoch
        due = cfg.TRAIN.CHECKPOINT_FREQ > 0 and (self.epoch + 1) % cfg.TRAIN.CHECKPOINT_FREQ == 0
        if not cfg.TEST.NO_TEST and cfg.TEST.FINAL_MODEL == "best_val":
            result = self.test(split="val")
            if result > self.best_result:
                self.best_result = result
                self.save_model(self.epoch, self.output_dir, val_result=result, model_name="model-best.pth.tar")
        if due or last:
            self.save_model(self.epoch, self.output_dir)
            if not cfg.TRAIN.KEEP_CHECKPOINTS:
                self._remove_older_checkpoints(self.epoch, self.output_dir)


def not_finite(state: Mapping[str, Tensor]) -> str | None:
    """Return the name of the first tensor that holds a NaN or an infinity, or None. The device is synchronised once if
    all of them are finite."""
    named = {name: value for name, value in state.items() if value.is_floating_point()}
    finite = [torch.isfinite(value).all() for value in named.values()]
    if not finite or bool(torch.stack([one.to(finite[0].device) for one in finite]).all()):
        return None
    return next(name for name, sound in zip(named, finite, strict=True) if not sound)
