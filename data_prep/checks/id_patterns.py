"""Patterns of text that is likely a reading mistake and no id."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class IdCheck:
    """Text that no id should be."""

    pattern: str
    """A regular expression."""
    cause: str
    """Why such text is likely no id, and what to do."""


CHECKS = (
    IdCheck(
        "[\\x00-\\x1f\\x7f-\\x9f\ufeff]",
        "which holds a control character: the file is damaged, or read in the wrong encoding or "
        "with the wrong delimiter",
    ),
    IdCheck(
        "\ufffd",
        "in which characters were lost when the file was written in a wrong encoding; write it "
        "again",
    ),
    IdCheck(
        r"^\[.*\]$|^\{.*\}$",
        "a list or an object as text; write one row for each, or lists as parquet or JSON Lines "
        "have them",
    ),
)
NULLS = IdCheck(
    r"(?i)^(\\n|null|\(null\)|none|na|n/a|#n/a|<na>|nat|nil|undefined)$",
    "which often stands for no value; remove these rows, or say literal_nulls=true if it is an id",
)
QUOTES = IdCheck(
    r"""^".*"$|^'.*'$""",
    "with quotes around it; say quote='\"' (or the other one) if quotes enclose fields here, "
    "quote=none if they are part of the ids",
)
