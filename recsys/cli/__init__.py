"""The command line: reads arguments and calls recipes, nothing else."""

from recsys.cli.app import app

__all__ = ["app"]
