"""The command line, as tests call it."""

from typer.testing import CliRunner

from recsys.cli import app


def invoke(*words):
    """What a command printed, and how it ended."""
    return CliRunner().invoke(app, [str(word) for word in words])


def call(*words, code=0):
    """What a command printed; it must end with `code`."""
    result = invoke(*words)
    assert result.exit_code == code, result.output
    return result.output
