#!/usr/bin/env python3
"""Put one mistake after another into the methods' code, and see whether the fast tests notice.

    python -m benchmarks.mutations [--only ogkd.py prograd.py] [--table FILE]

A mutation replaces a text that stands exactly once in a file by another that makes the method compute something else.
It is caught if a test fails. Each is tried in a copy of this checkout, in a fork of a process that has already imported
PyTorch, so that it takes about a second of processor time. The exit code is 1 if one survives.
"""

from __future__ import annotations

import argparse
import gc
import importlib
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from tabulate import tabulate

from ogkd.core import UserError, run_program

ROOT = Path(__file__).resolve().parents[1]
TREES = ("trainers", "ogkd/tuning", "dassl/optim")  # where the files are looked for, in any folder
HEAVY = ("torch", "torchvision", "open_clip", "timm", "transformers.models.bert.modeling_bert",
         "transformers.models.clip.modeling_clip", "sklearn.linear_model", "scipy.stats", "pandas",
         "hypothesis.extra.numpy", "PIL.Image", "pydicom", "pytest")  # fmt: skip
QUICK = ("-x", "-q", "-m", "not slow", "--tb=no", "--assert=plain", "-p", "no:cacheprovider",
         "-p", "no:unraisableexception")  # fmt: skip
"""What pytest is told: stop at the first failure, and leave out whatever only makes its report better."""

LOSSES, TRAININGS = "test_golden_losses.py", "test_trainings.py"
MATH, OGKD_MATH, GOLDEN = "test_baseline_math.py", "test_ogkd_math.py", "test_golden.py"

FILES: dict[str, tuple[tuple[str, ...], list[tuple[str, str, str]]]] = {
    # file: the tests that are to notice, the likeliest first; (text, what replaces it, what goes wrong)
    "ogkd.py": (
        (LOSSES, TRAININGS, OGKD_MATH, GOLDEN),
        [
            ('"ce": F.cross_entropy(logits, label)', '"ce": 0 * F.cross_entropy(logits, label)', "no cross entropy"),
            ("options.LAMBDA_SCCM * F", "F", "LAMBDA_SCCM ignored"),
            ("options.LAMBDA_GAD * gad", "gad", "LAMBDA_GAD ignored"),
            ("options.LAMBDA_LGD * lgd", "lgd", "LAMBDA_LGD ignored"),
            ("attentive_patches(patch_teacher,", "attentive_patches(scale * patches @ text.t(),",
             "patches chosen by the student"),
            ("selected = self.teacher.selected_prototypes(image, scale, options.TAU)", "selected = self.prototypes",
             "no teacher selection"),
            ("image, scale, options.TAU", "image, scale, 1.5", "TAU ignored"),
            ("F.mse_loss(text, self.prototypes)", "F.mse_loss(text, selected)", "SCCM to the selected prototypes"),
            ("gad_loss(logits, teacher,", "gad_loss(teacher, logits,", "GAD reversed"),
            ("lgd_loss(patch_logits, patch_teacher,", "lgd_loss(patch_teacher, patch_logits,", "LGD reversed"),
            ("self.graph, options.GAMMA,", "self.graph, 0.5,", "GAMMA ignored"),
            ("options.GAMMA, options.SMOOTHING", 'options.GAMMA, "log"', "SMOOTHING ignored"),
            ("label, options.TOP_K_RATIO)", "label, 0.5)", "TOP_K_RATIO ignored"),
            ("self.options.GRAPH, self.options.ALPHA", "self.options.GRAPH, 1.0", "ALPHA ignored"),
            ("gamma * log_prob @ graph", "gamma * log_prob @ graph.t()", "diffused against the graph's direction"),
            ("gamma * prob @ graph", "gamma * prob @ graph.t()", "probabilities diffused against its direction"),
            ("(alpha * q @ q.t()).softmax(-1)", "(alpha * q @ q.t()).softmax(0)", "columns, not rows, sum to 1"),
            ("HELD_OUT_WEIGHT = 0.1", "HELD_OUT_WEIGHT = 1.0", "held-out classes count fully"),
            (".sum() / student.numel()", ".sum() / len(student)", "GAD not over the classes"),
            (".sum() / r.numel()", ".sum() / len(r)", "LGD not over the patches"),
            ("at_label.abs().topk", "at_label.topk", "the largest, not the largest in absolute value"),
            ("count = max(1, round(", "count = max(1, int(", "the number of patches rounded down"),
        ],
    ),
    "biomedcoop.py": (
        (LOSSES, TRAININGS, MATH),
        [
            ('"ce": F.cross_entropy(logits, label)', '"ce": 0 * F.cross_entropy(logits, label)', "no cross entropy"),
            ("options.LAMBDA_SCCM * F", "F", "LAMBDA_SCCM ignored"),
            ("options.LAMBDA_KDSP * kdsp", "kdsp", "LAMBDA_KDSP ignored"),
            ("kdsp_loss(logits, teacher)", "kdsp_loss(teacher, logits)", "KDSP reversed"),
            ("self.teacher.selected_prototypes(image, self.scale, options.TAU)", "self.prototypes",
             "no teacher selection"),
            ("self.scale, options.TAU", "self.scale, 1.5", "TAU ignored"),
            ("kl / student.numel()", "kl / len(student)", "KDSP not over the classes"),
        ],
    ),
    "teacher.py": (
        (LOSSES, TRAININGS, OGKD_MATH),
        [
            ("standardised.abs() <= tau", "standardised.abs() >= tau", "the outliers are selected"),
            ("standardised.abs() <= tau", "standardised <= tau", "outliers on one side alone left out"),
            (".amax(1).mean(0)", ".mean(1).mean(0)", "scored by the mean, not the largest logit"),
            ("/ zeta.std()", "/ zeta.std(unbiased=False)", "biased deviation"),
            ("scores - scores.median()", "scores - scores.mean()", "distance from the mean"),
            ("F.normalize(self.prompts.mean(-2), dim=-1)", "self.prompts.mean(-2)", "prototypes not normalised"),
            ("return F.normalize(mean, dim=-1)", "return mean", "selected prototypes not normalised"),
            ("torch.where(kept.any(), kept, everything)", "kept", "NaN where no prompt is within tau"),
        ],
    ),
    "cocoop.py": (
        (TRAININGS, MATH),
        [
            ("self.ctx + shift", "self.ctx + 0 * shift", "contexts not shifted"),
            ("self.meta_net(image)[:", "self.meta_net(image).detach()[:", "the meta-net learns nothing"),
            ("self.meta_net(image)[:", "self.meta_net(image.mean(0, keepdim=True).expand_as(image))[:",
             "one shift for all images"),
            ("nn.ReLU()", "nn.Tanh()", "another activation"),
            ("model.embed_dim // 16", "model.embed_dim // 2", "another width of the meta-net"),
            ("text.unflatten(0, (len(image), -1))", "text.unflatten(0, (-1, len(image))).transpose(0, 1)",
             "prompts of other images"),
            ('"ce": F.cross_entropy(logits, label)', '"ce": 0 * F.cross_entropy(logits, label)', "no cross entropy"),
        ],
    ),
    "kgcoop.py": (
        (TRAININGS, MATH),
        [
            ("self.options.W * kg", "8.0 * kg", "W ignored"),
            ('"ce": F.cross_entropy(logits, label)', '"ce": 0 * F.cross_entropy(logits, label)', "no cross entropy"),
            ("kg_loss(text, self.frozen)", "kg_loss(text.detach(), self.frozen)", "its term has no gradient"),
            ("1 - F.cosine", "1 + F.cosine", "away from the template"),
            (".mean()", ".sum()", "sum over the classes"),
        ],
    ),
    "prograd.py": (
        (TRAININGS, MATH),
        [
            ("project(g, k, self.options.LAMBDA)", "g", "no projection"),
            ("project(g, k, self.options.LAMBDA)", "project(g, k)", "LAMBDA ignored"),
            ("project(g, k,", "project(k, g,", "the two gradients exchanged"),
            ("(along < 0)", "(along > 0)", "projected where the two agree"),
            ("(along < 0) &", "(along < 1e9) &", "always projected"),
            ("task - weight * along", "task + weight * along", "the conflict doubled"),
            ("weight * along * direction", "weight * along * general", "not the unit direction"),
            ("self.zero_shot.t()", "self.text_features().detach().t()", "the teacher is the student"),
            ("teacher, self.options.T)", "teacher, 1.0)", "T ignored"),
            ("kl_div(log_student, log_teacher,", "kl_div(log_teacher, log_student,", "KL reversed"),
            ("* temperature**2", "* temperature", "tempered once"),
            ('reduction="batchmean"', 'reduction="sum"', "KL summed over the batch"),
            ("NEGLIGIBLE = 5e-7", "NEGLIGIBLE = 1e-5", "the second step not projected"),
            ("NEGLIGIBLE = 5e-7", "NEGLIGIBLE = 1e-8", "the first step projected along rounding"),
            ("task = torch.autograd.grad(terms[\"ce\"]", "task = torch.autograd.grad(terms[\"ce\"] + terms[\"kl\"]",
             "descends along the KL too"),
        ],
    ),
    "maple.py": (
        (TRAININGS, MATH),
        [
            ("self.prompt_learner.visual_prompts())", "None)", "no visual prompts"),
            ("dict(enumerate(learner.deep, 1)), learner.context_positions(),", "None, None,",
             "no deep textual prompts"),
            ("[shared, *self.deep]", "[shared, *list(self.deep)[::-1]]", "visual prompts from other layers"),
            ("project(prompt)", "project(prompt.detach())", "no gradient through the coupling"),
            ("self.ctx.mean(0) if", "self.ctx[0] if", "the first class's contexts for all"),
            ("F.normalize(out.global_token, dim=-1)", "out.global_token", "image feature not normalised"),
            ("self.scale * image.float()", "image.float()", "scale ignored"),
        ],
    ),
    "clip_adapter.py": (
        (TRAININGS, MATH),
        [
            ("self.ratio * self.layers(features) + (1 - self.ratio) * features",
             "(1 - self.ratio) * self.layers(features) + self.ratio * features", "mixed the other way round"),
            ("options.RATIO, options", "0.2, options", "RATIO ignored"),
            ("options.RATIO, options.NORMALIZE", "options.RATIO", "NORMALIZE ignored"),
            ("F.normalize(mixed, dim=-1) if self.normalize else mixed", "mixed", "never normalised"),
            ("nn.Linear(hidden, width, bias=False), nn.ReLU()", "nn.Linear(hidden, width, bias=False)", "no last ReLU"),
            ("options.REDUCTION, options.RATIO", "4, options.RATIO", "REDUCTION ignored"),
            ("self.scale * self.adapter", "self.adapter", "scale ignored"),
        ],
    ),
    "tip_adapter.py": (
        (TRAININGS, MATH),
        [
            ("(self.beta * (features", "((features", "beta ignored"),
            ("self.alpha * (similar", "(similar", "alpha ignored"),
            ("self.scale * features @ self.text.t() + self", "features @ self.text.t() + self", "scale ignored"),
            ("options.ALPHA, options.BETA)", "1.0, 1.0)", "ALPHA and BETA ignored"),
            ("if not options.SEARCH:", "if False:", "SEARCH ignored"),
            ("labels = task.validation_set", "labels = task.training_set", "searched on the training images"),
            ("cache.alpha.fill_(alpha)", "cache.alpha.fill_(1.0)", "the search's alpha not used"),
            ("cache.beta.fill_(beta)", "cache.beta.fill_(1.0)", "the search's beta not used"),
            ("0.1 + i * (most - 0.1) / steps", "(i + 1) * most / steps", "another grid"),
            ("counts.flatten().argmax()", "(counts.numel() - 1 - counts.flatten().flip(0).argmax())",
             "the last of the best pairs"),
        ],
    ),
    "linear_probe.py": (
        (MATH, TRAININGS),
        [
            ("self.options.C or 10", "10", "C ignored"),
            ("images, labels = task.validation_set", "images, labels = task.training_set",
             "C chosen on training images"),
            ("fit = LogisticRegression(C=c,", "fit = LogisticRegression(C=1.0,", "always the same C"),
            ("self.coef.t() + self.intercept", "self.coef.t()", "no intercept"),
            ("if accuracy(low) < accuracy(high)", "if accuracy(low) <= accuracy(high)", "the higher end wins a tie"),
            ("EXPONENTS = (6, 4, 2, 0, -2, -4, -6)", "EXPONENTS = (-6, -4, -2, 0, 2, 4, 6)", "the lowest C wins a tie"),
            ("BISECTIONS = 8", "BISECTIONS = 4", "a coarser search"),
        ],
    ),
    "lp_plus_plus.py": (
        (TRAININGS, MATH),
        [
            ("self.alpha * (features", "self.alpha.mean() * (features", "one multiplier for all classes"),
            ("float(4 * len(features)", "float(len(features)", "a fourth of the weights' step"),
            ("(4 * text_logits", "(text_logits", "four times the multipliers' step"),
            ("return 250 * float", "return float", "multipliers start 250 times smaller"),
            ("copy_(one_hot.t() @ features)", "zero_()", "weights start at 0"),
            ("(epoch + 1) % self.options.ALPHA_EVERY == 0", "True", "ALPHA_EVERY ignored"),
            ("scaled.LR *= self.weight_step", "scaled.LR = self.weight_step", "OPTIM.LR ignored"),
            ("factor * self.alpha_step", "self.alpha_step", "OPTIM.LR ignored for the multipliers"),
            ("later_is_better = True", "later_is_better = False", "the first of the best epochs"),
            ("text, self.options.BIAS)", "text)", "BIAS ignored"),
        ],
    ),
    "clip_trainer.py": (
        (LOSSES, TRAININGS),
        [
            ("if self.method.schedule_by_step or (self.batch_idx + 1) == self.num_batches:", "if True:",
             "the learning rate falls by the step"),
            ("if self.method.schedule_by_step or (self", "if (self", "a constant learning rate in an epoch"),
            ("            self.update_lr()\n",
             "            self.update_lr()\n        if (self.batch_idx + 1) == self.num_batches:\n"
             "            self.update_lr()\n", "a schedule by step also stepped by the epoch"),
            ("self.method.zero_grad()", "self.optim.zero_grad()", "gradients of LP++'s multipliers never cleared"),
            ("math.nextafter(self.best_result, -math.inf)", "self.best_result", "the first of the best epochs"),
            ("            self.load_model(self.output_dir)\n            self.method.finish(self.task)",
             "            self.method.finish(self.task)", "finished from the last epoch, not the best"),
            ("            self.method.finish(self.task)\n", "", "no search after fine-tuning"),
        ],
    ),
    "method.py": (
        (LOSSES, TRAININGS),
        [
            ("torch.stack(list(terms.values())).sum()", "torch.stack(list(terms.values())).mean()",
             "the mean of the terms"),
            ("torch.stack(list(terms.values())).sum()", "next(iter(terms.values()))", "the first term alone"),
            ("build_optimizer(self, optim)",
             "build_optimizer(list(self.parameters())[:1], optim)", "only the first parameter learns"),
            ("optim.MAX_EPOCH *= steps", "optim.MAX_EPOCH *= 1", "a cosine of as many steps as epochs"),
        ],
    ),
    "prompt_method.py": (
        (TRAININGS,),
        [
            ("self.scale * features", "features", "scale ignored"),
            ("F.cross_entropy(logits, label)", 'F.cross_entropy(logits, label, reduction="sum")', "sum over the batch"),
            ("features.global_token", "features.global_token.roll(1, 0)", "another image's feature"),
            ("text = self.text_features()\n", "text = self.text_features().detach().requires_grad_()\n",
             "nothing is learned"),
            ("return F.normalize(text, dim=-1)", "return text", "text features not normalised"),
            ("dropout=self.prompt_learner.text_dropout", "dropout=0.0", "TEXT_DROPOUT ignored"),
            ("self.eval()", "pass", "dropout in the test"),
            ("weights = self.scale * self.text_features().t()\n        return lambda features: features @",
             "weights = self.text_features().t()\n        return lambda features: features @",
             "tested without the scale"),
        ],
    ),
    "prompt_learner.py": (
        ("test_prompt_learner.py", TRAININGS),
        [
            ("self.dropout if self.training else 0.0", "self.dropout", "dropout in the test"),
            ("options.TEXT_DROPOUT,\n", "\n", "TEXT_DROPOUT ignored"),
            ("n_ctx // 2 if", "0 if", 'position "middle" is "front"'),
            ("[0, 1 : 1 + n_ctx]", "[0, :n_ctx]", "the start token is a context vector"),
            ("normal_(std=0.02)", "normal_(std=0.2)", "random contexts ten times larger"),
            ("first = torch.arange(1, 1", "first = torch.arange(0, 0", "contexts looked for one place too early"),
        ],
    ),
    "templates.py": (
        (TRAININGS,),
        [('"{}", class_words(name)', '"{}", class_words(classnames[0])', "the first class's text for all")],
    ),
    "optimizer.py": (
        (TRAININGS,),
        [
            ("momentum=optim_cfg.MOMENTUM,\n", "momentum=0.9,\n", "MOMENTUM ignored"),
            ('"weight_decay": optim_cfg.WEIGHT_DECAY', '"weight_decay": 0.0', "no weight decay"),
            ('"lr": lr', '"lr": 0.002', "LR ignored"),
            ('"adamw": torch.optim.AdamW', '"adamw": torch.optim.Adam', "decay not decoupled"),
            ('"eps": optim_cfg.ADAM_EPS', '"eps": 1e-8', "ADAM_EPS ignored"),
        ],
    ),
    "lr_scheduler.py": (
        (TRAININGS,),
        [
            ("return [self.cons_lr] * len(self.base_lrs)", "return list(self.base_lrs)", "no warm-up"),
            ("if not optim_cfg.WARMUP_RECOUNT:", "if optim_cfg.WARMUP_RECOUNT:", "the cosine counts the warm-up"),
            ("float(max_epoch)", "2.0 * max_epoch", "half a cosine"),
        ],
    ),
}  # fmt: skip


class Mutation(NamedTuple):
    file: str  # its name, in any folder of TREES; where it has moved to another file, the text finds it
    tests: tuple[str, ...]
    old: str
    new: str
    why: str

    def place(self, root: Path) -> Path:
        """The file that has the text: one of that name, or else any.

        Raises UserError unless the text stands there exactly once.
        """
        counts: dict[Path, int] = {}
        for name in (self.file, "*.py"):
            paths = [path for tree in TREES for path in sorted((root / tree).rglob(name))]
            counts = {path: n for path in paths if (n := path.read_text(encoding="utf-8").count(self.old))}
            if counts:
                break
        if list(counts.values()) != [1]:
            raise UserError(
                f"The text {self.old!r} stands {sum(counts.values())} times in {self.file} (or else below "
                f"{' and '.join(TREES)}), not once: adapt the mutation '{self.why}' to the code."
            )
        return next(iter(counts))


def mutations(only: Sequence[str] = ()) -> Iterator[Mutation]:
    for file, (tests, changes) in FILES.items():
        if not only or file in only:
            yield from (Mutation(file, tests, *change) for change in changes)


def _left_out(folder: str, names: list[str]) -> set[str]:
    """What a copy of the checkout does without."""
    top = {name for name in names if name.startswith(".") or name in ("cache", "data", "output")}
    return {"__pycache__"} | (top if Path(folder) == ROOT else set())


def fails(root: Path, tests: Sequence[str]) -> bool:
    """Whether a test of the checkout `root` fails, in a fork of this process."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            code = _run_tests(root, tests)
        finally:
            os._exit(code)
    return os.waitpid(child, 0)[1] != 0


def _run_tests(root: Path, tests: Sequence[str]) -> int:
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", None) or "").startswith(str(ROOT)):
            del sys.modules[name]
    sys.path[:] = [str(root), *(path for path in sys.path if path and Path(path).resolve() != ROOT)]
    os.chdir(root)
    silent = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silent, 1), os.dup2(silent, 2)
    import pytest

    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    return int(pytest.main([*QUICK, *(f"tests/{test}" for test in tests)]))


def survives(mutation: Mutation, root: Path) -> bool:
    """Whether all tests pass although the mutation is in the checkout `root`, which is as before afterwards."""
    path = mutation.place(root)
    text, status = path.read_text(encoding="utf-8"), path.stat()
    try:
        path.write_text(text.replace(mutation.old, mutation.new), encoding="utf-8")
        os.utime(path, (0, 0))  # so that no compiled file of the original is taken for it
        return not fails(root, mutation.tests)
    finally:
        path.write_text(text, encoding="utf-8")
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", default=[], choices=FILES, metavar="FILE", help="mutate these files alone")
    parser.add_argument("--table", type=Path, help="also write the table to this file")
    args = parser.parse_args(argv)
    tried = list(mutations(args.only))
    for mutation in tried:
        mutation.place(ROOT)
    for name in HEAVY:
        importlib.import_module(name)
    gc.freeze()  # so that a fork's collections leave these modules' memory shared
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "checkout"
        shutil.copytree(ROOT, root, ignore=_left_out)
        every_test = list(dict.fromkeys(test for mutation in tried for test in mutation.tests))
        if fails(root, every_test):  # this run also compiles every file, once
            raise UserError("The tests fail without a mutation: mend them first.")
        sys.dont_write_bytecode = True
        rows = []
        for mutation in tried:
            survived = survives(mutation, root)
            rows.append([mutation.file, mutation.why, "SURVIVED" if survived else "caught"])
            print(*rows[-1], sep="  ", flush=True)
    survivors = sum(row[-1] == "SURVIVED" for row in rows)
    table = tabulate(rows, ["file", "what goes wrong", "tests"], tablefmt="github")
    table += f"\n\n{len(rows) - survivors} of {len(rows)} caught in {time.monotonic() - start:.0f} s"
    print(f"\n{table}")
    if args.table:
        args.table.write_text(f"{table}\n", encoding="utf-8")
    sys.exit(bool(survivors))


if __name__ == "__main__":
    sys.exit(run_program(main))
