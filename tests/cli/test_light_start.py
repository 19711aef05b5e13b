"""Programs that only read files start at once: nothing heavy is imported before it is needed."""

import subprocess
import sys

import pytest

from tests.conftest import ROOT
from tests.support.forked import python

HEAVY = ("torch", "open_clip", "transformers", "timm", "torchvision")
PROGRAMS = [
    ["ogkd/__main__.py", "--help"],
    ["parse_test_res.py", "--help"],
    ["report.py", "--help"],
    ["scripts/download.py", "--help"],
    ["scripts/download.py", "--check", "btmri", "--root", "no such folder"],
    ["scripts/check_prompts.py", "--help"],
    ["scripts/check_prompts.py", "ogkd/prompts/BUSI.json"],
    ["train.py", "--help"],
    ["scripts/run.py", "--help"],
    ["scripts/compare.py", "--help"],
    ["scripts/ablation.py", "--help"],
    ["scripts/reproduce.py", "--help"],
    ["predict.py", "--help"],
    ["predict.py", "no such run", "no such folder", "--abstain", "2"],
    ["scripts/split.py", "--help"],
    ["scripts/check_data.py", "--help"],
    ["scripts/export_prompt.py", "--help"],
    ["scripts/embed.py", "--help"],
    ["scripts/corrupt.py", "--help"],
]
ONE_AFTER_ANOTHER = f"""
import runpy, sys
for words in {PROGRAMS}:
    sys.argv, code = words, 0
    try:
        runpy.run_path(words[0], run_name="__main__")
    except SystemExit as ended:
        code = ended.code or 0
    print("ended", *words, [name for name in {HEAVY} if name in sys.modules], code)
    if words == {PROGRAMS[0]}:
        print("at first", [name for name in ("numpy", "PIL") if name in sys.modules])
"""


def test_light_programs_import_neither_pytorch_nor_a_model_library_and_the_list_of_commands_not_even_numpy():
    done = subprocess.run([sys.executable, "-c", ONE_AFTER_ANOTHER], cwd=ROOT, capture_output=True, text=True)
    ends = [line for line in done.stdout.splitlines() if line.startswith("ended ")]
    assert len(ends) == len(PROGRAMS), done.stdout + done.stderr
    assert all(end.endswith(("[] 0", "[] 2")) for end in ends), ends
    assert "at first []" in done.stdout
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_everything_imports_without_the_modules_that_only_unix_has():
    program = (
        "import sys\n"
        "for name in ('resource', 'fcntl', 'termios', 'pwd', 'grp'):\n"
        "    sys.modules[name] = None\n"
        "import train, parse_test_res, report\n"
        "from ogkd.runs.registry import register_everything\n"
        "register_everything()\n"
        "import ogkd.runs.execute, ogkd.runs.plan, ogkd.runs.engines.local\n"
        "import ogkd.cli.download, ogkd.prompts.check_cli\n"
        "import ogkd.evaluation.statistics, ogkd.reports.tables, clip\n"
        "from ogkd.core.phases import peak_memory_bytes\n"
        "print(peak_memory_bytes())\n"
    )
    done = python(["-c", program])
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "None"
