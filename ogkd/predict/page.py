"""`ogkd try RUN`: a page in the browser, served on this machine only, that classifies the image dropped on it."""

from __future__ import annotations

import argparse
import importlib.util
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

from ogkd.core import UserError
from ogkd.core.escape import markdown
from ogkd.core.places import command, install_command
from ogkd.evaluation.unlike import UNLIKE
from ogkd.predict.command import (
    HUB,
    UNCERTAIN,
    Judge,
    Named,
    Prediction,
    add_answer_options,
    answers,
    check_answer_options,
    heatmap,
    ready,
)
from ogkd.predict.operating import about_sets

HERE = "127.0.0.1"
PRIVATE = {"GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_DISABLE_TELEMETRY": "1"}
ONLY_HERE = b"default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:; form-action 'self'"
"""The content security policy: the browser may load and send nothing elsewhere."""
LIMITS = (
    "Research software, not a medical device: do not base a diagnosis or a treatment on its answers. It always answers "
    "with one of its classes, even for an image that shows none of them. Images stay on this machine, and are deleted "
    "when the program ends."
)


class Answer(NamedTuple):
    """What the page shows: a sentence, each class's probability, and a picture."""

    sentence: str
    chances: dict[str, float]
    picture: Image.Image


class Page:
    """Answers for one image at a time, by the rules of `predict`."""

    def __init__(self, judge: Judge) -> None:
        self.judge, self.predictor, self.abstain = judge, judge.predictor, judge.abstain
        try:
            self.predictor.require_patches()
            self.why_no_map = ""
        except UserError:
            of = self.predictor.prompt.method if self.predictor.method.clip_model.has_patches else "This model"
            self.why_no_map = f"{of} has no heat map: it does not compare patches with texts."

    def answer(self, path: str) -> Answer:
        """Raises UserError if the file cannot be read."""
        named = Named.file(path)
        ((read, computed),) = answers(self.predictor, [named], patches=not self.why_no_map)
        if read.picture is None or computed is None:
            raise UserError(read.problem)
        prediction = self.judge.judged(read._replace(image=named._replace(name=Path(path).name)), computed)
        shown = self.predictor.view(read.picture)
        if computed.patch_logits is not None:
            shown = heatmap(shown, computed.patch_logits[0], self.judge.temperature, prediction)
        return Answer(
            self._sentence(prediction),
            dict(zip(self.predictor.classnames, map(float, prediction.chances), strict=True)),
            shown,
        )

    def _sentence(self, prediction: Prediction) -> str:
        words = [f"## {markdown(prediction.decision)}"]
        if prediction.decision == UNCERTAIN:
            words.append(f"No class reaches {self.abstain:.0%}.")
        if prediction.unlike:
            words.append(f"**The image is {UNLIKE}.**")
        if prediction.blank:
            words.append("**The image is blank.**")
        if prediction.frames > 1:
            words.append(f"The file has {prediction.frames} frames or pages, of which one was read.")
        return "\n\n".join([*words, self.why_no_map])

    def facts(self) -> str:
        """What answers, and by which rules."""
        from ogkd.evaluation.limits import phantom_note

        prompt = self.predictor.prompt
        method, backbone, dataset = map(markdown, (prompt.method, Path(prompt.backbone).name, prompt.dataset))
        rules = ["calibrated" if self.judge.temperature != 1 else "not calibrated"]
        if self.abstain is not None:
            rules.append(f"the answer is “{UNCERTAIN}” if no class reaches {self.abstain:.0%}")
        if self.judge.point is not None:
            point = self.judge.point
            rules.append(f"positive for {markdown(point.classname)} from a probability of {point.threshold:.4g} on")
        if self.judge.rule is not None:
            rules += [markdown(sentence.rstrip(".")) for sentence in about_sets(self.judge.rule)]
        what = f"{method} on {backbone}, trained on {dataset}; {', '.join(rules)}."
        return f"{what} {phantom_note(prompt.backbone)}".strip()


def blocks(page: Page) -> Any:
    """The page as gradio's Blocks."""
    import gradio as gr

    def classify(path: str | None) -> tuple:
        if path is None:
            return "", None, None
        try:
            return page.answer(path)
        except UserError as error:
            raise gr.Error(str(error), print_exception=False) from None

    with gr.Blocks(title=command("try"), analytics_enabled=False) as made:
        gr.Markdown(f"**{LIMITS}**\n\n{page.facts()}")
        with gr.Row():
            with gr.Column(scale=1):
                file = gr.File(label="An image: PNG, JPEG, TIFF, BMP, WebP or DICOM", type="filepath")
                sentence = gr.Markdown()
                chances = gr.Label(
                    label="Probability of each class",
                    num_top_classes=len(page.predictor.classnames),
                    show_heading=False,
                    buttons=[],
                )
            picture = gr.Image(
                show_label=False, format="png", interactive=False, scale=2, buttons=["fullscreen", "download"]
            )
        file.change(classify, file, [sentence, chances, picture], api_name="classify", queue=False)
    return made


class _OnlyHere:
    """ASGI middleware that adds the content security policy to every response."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def with_policy(message: dict) -> None:
            if message["type"] == "http.response.start":
                message = message | {"headers": [*message["headers"], (b"content-security-policy", ONLY_HERE)]}
            await send(message)

        await self.app(scope, receive, with_policy)


def serve(page: Page, port: int | None = None, wait: bool = True) -> Any:
    """Serve the page on this machine; returns gradio's Blocks, which `close`, when not waiting for the end."""
    from starlette.middleware import Middleware

    made = blocks(page)
    made.launch(
        server_name=HERE,
        server_port=port,
        share=False,
        quiet=True,
        ssr_mode=False,
        run_history=False,
        footer_links=[],
        prevent_thread_lock=True,
        app_kwargs={"middleware": [Middleware(_OnlyHere)]},
    )
    print(f"Open {made.local_url} in a browser on this machine; Ctrl-C ends the program.", flush=True)
    if wait:
        made.block_thread()
    return made


def main(argv: Sequence[str] | None = None) -> None:
    """Serve until Ctrl-C. Raises UserError for what the user can fix."""
    p = argparse.ArgumentParser(
        prog=command("try"),
        description="Serve a page on this machine: drop an image, see the answer, each class's probability and the "
        "heat map. Nothing leaves the machine. Research software, not a medical device.",
    )
    p.add_argument("run", metavar="RUN", help=f"a run's folder, an exported folder, or {HUB}org/name")
    add_answer_options(p)
    p.add_argument("--port", type=int, help="default: the first free one from 7860")
    args = p.parse_args(argv)
    check_answer_options(args)
    if importlib.util.find_spec("gradio") is None:
        raise UserError(f"The page needs the package gradio: {install_command('try')}.")
    with tempfile.TemporaryDirectory(prefix="ogkd-try-") as folder:
        os.environ.update(PRIVATE | {"GRADIO_TEMP_DIR": folder})  # they are read on import
        serve(Page(ready(args)), args.port)
