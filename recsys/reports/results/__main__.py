"""`make results`: fills the pages of a project from its results files, or compares them (--check).

python -m recsys.reports.results [--check] [ROOT]
"""

from __future__ import annotations

import sys
from pathlib import Path

from recsys.errors import RecsysError
from recsys.files.atomic import write_text
from recsys.reports.results.pages import differences, filled, pages_of
from recsys.reports.results.record import read_results
from recsys.reports.results.strays import strays

FOLDER = "results"
REMEDY = (
    "Figures come out of results files: mark their place (`results:NAME`) and run `make results`; "
    "quote those of others by `published: SOURCE`, and a number that was chosen by `not-measured`."
)


def fill(root: Path) -> tuple[list[Path], list[str]]:
    """Fills all pages; returns those that have changed, and what is wrong with the others."""
    changed, wrong = [], []
    for page in pages_of(root):
        try:
            text = filled(page, root / FOLDER)
        except RecsysError as error:
            wrong.append(str(error))
            continue
        if text != page.read_text(encoding="utf-8"):
            write_text(page, text)
            changed.append(page)
    return changed, wrong


def check(root: Path) -> list[str]:
    """What is wrong with files and pages, one message each."""
    wrong: list[str] = []
    for path in sorted((root / FOLDER).glob("*.json")):
        try:
            read_results(path)
        except RecsysError as error:
            wrong.append(str(error))
    for page in pages_of(root):
        try:
            wrong += map(str, differences(page, root / FOLDER))
        except RecsysError as error:
            wrong.append(str(error))
        wrong += map(str, strays(page))
    return list(dict.fromkeys(wrong))


def main(arguments: list[str]) -> int:
    """Fills or checks; what is wrong goes to standard error."""
    places = [Path(each) for each in arguments if each != "--check"]
    root = places[0] if places else Path()
    if "--check" in arguments:
        wrong = check(root)
        if wrong:
            print(*wrong, REMEDY, sep="\n", file=sys.stderr)
        return 1 if wrong else 0
    changed, wrong = fill(root)
    for page in changed:
        print(f"filled: {page}")
    for message in wrong:
        print(f"error: {message}", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
