"""The command line: arguments -> recipes, nothing else."""

from recsys.cli.app import app

__all__ = ["app"]
