"""A further process of `recsys tune --jobs`: it trains trials of a search folder."""

from __future__ import annotations

import sys
from pathlib import Path

from recsys.errors import RecsysError
from recsys.recipes.training.tune import work
from recsys.tuning.trials import Trials

if __name__ == "__main__":
    try:
        work(Trials(Path(sys.argv[1])), int(sys.argv[2]), parent=int(sys.argv[3]))
    except RecsysError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)
