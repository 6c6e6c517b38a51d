import pytest
from command import CommandLine


@pytest.fixture
def line(tmp_path):
    """The command line in an empty folder; nothing that it started outlives the test."""
    folder = tmp_path / "job"
    folder.mkdir()
    command_line = CommandLine(folder)
    yield command_line
    command_line.end_all()
