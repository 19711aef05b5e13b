"""A headless Chromium driven over WebDriver, whose protocol is JSON over HTTP, so that no further package is needed."""

import base64
import json
import shutil
import subprocess
import urllib.request
from contextlib import contextmanager
from pathlib import Path

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
STARTED = "was started successfully on port "
SWITCHES = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars")


def missing() -> str:
    """Return why no browser can be driven here; empty if one can."""
    if not _browser():
        return "there is no Chromium (Debian and Ubuntu: apt-get install chromium)"
    if not shutil.which("chromedriver"):
        return "there is no chromedriver (Debian and Ubuntu: apt-get install chromium-driver)"
    return ""


def _browser() -> str | None:
    return next(filter(None, map(shutil.which, BROWSERS)), None)


class Browser:
    """A session. `url` is that of the WebDriver session."""

    def __init__(self, url: str) -> None:
        self.url = url

    def call(self, command: str, **words: object) -> object:
        return _call(f"{self.url}/{command}", words)

    def devtools(self, command: str, **words: object) -> dict:
        return self.call("goog/cdp/execute", cmd=command, params=words)

    def open(self, page: Path, width: int, height: int = 900, scheme: str = "light") -> None:
        """Load a file in a viewport of a size in pixels, as a telephone of that width would."""
        self.devtools(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )
        self.devtools("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        self.call("url", url=page.absolute().as_uri())

    def run(self, script: str) -> object:
        """Run a script, the body of a function, and return its result."""
        return self.call("execute/sync", script=script, args=[])

    def log(self) -> list[dict]:
        """Messages of the console since the last call."""
        return self.call("se/log", type="browser")

    def pdf(self, file: Path) -> None:
        """The page as it prints on A4."""
        printed = self.call("print", page={"width": 21.0, "height": 29.7}, background=True)
        file.write_bytes(base64.b64decode(printed))


@contextmanager
def browser():
    """A browser that ends with the block."""
    driver = subprocess.Popen(
        ["chromedriver", "--port=0"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        port = next(line.partition(STARTED)[2].strip(" .\n") for line in driver.stdout if STARTED in line)
        options = {"binary": _browser(), "args": SWITCHES}
        wanted = {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}
        session = _call(f"http://127.0.0.1:{port}/session", {"capabilities": {"alwaysMatch": wanted}})
        url = f"http://127.0.0.1:{port}/session/{session['sessionId']}"
        try:
            yield Browser(url)
        finally:
            _open(urllib.request.Request(url, method="DELETE"))
    finally:
        driver.terminate()
        driver.wait(20)


def _call(url: str, words: dict) -> object:
    request = urllib.request.Request(url, json.dumps(words).encode(), {"Content-Type": "application/json"})
    return json.loads(_open(request))["value"]


def _open(request: urllib.request.Request) -> bytes:
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with direct.open(request, timeout=120) as answer:
        return answer.read()
