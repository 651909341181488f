"""`python -m benchmarks.serving BUNDLE`: see `load`."""

import typer

from benchmarks.serving.load import main

if __name__ == "__main__":
    typer.run(main)
