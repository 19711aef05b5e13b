"""A report that the tests of its contents and of its looks share."""

import pytest

from ogkd.reports.page import write
from tests.report_runs import write_output


@pytest.fixture(scope="session")
def output(data, tmp_path_factory):
    """A folder with runs of both protocols, and their predictions."""
    folder = tmp_path_factory.mktemp("output")
    return folder, write_output(folder, data)


@pytest.fixture(scope="session")
def page_file(output, tmp_path_factory):
    """The report over these runs."""
    return write(output[0], tmp_path_factory.mktemp("page") / "report.html")
