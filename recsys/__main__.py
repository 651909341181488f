"""`python -m recsys` is the console script."""

from recsys.cli import app

app()
