"""`python -m recsys`: the same as the command `recsys`."""

from recsys.cli import app

app()
