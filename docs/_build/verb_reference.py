"""The page `verbs.md` of the site: every call at the top of `recsys`, from its own docstring."""

from __future__ import annotations

from typing import Any


def page() -> str:
    """The Markdown, with one block of mkdocstrings for each verb and each class of options."""
    import data_prep
    import recsys

    parts = [
        "# Verbs",
        "Every verb of the command line is one call of the package `recsys`; `prepare` and the "
        "verbs of item content are calls of `data_prep`. Arguments have the same meaning in both.",
    ]
    for name, module in {**recsys._VERBS, **recsys._OPTIONS}.items():
        parts.append(_block(f"recsys.{name}", f"{module}.{name}"))
    for name in ("prepare", "prepare_clicks", "encode_text", "encode_images", "attach", "featurize_columns"):
        module = getattr(data_prep, name).__module__  # `data_prep.prepare` is a module, too
        parts.append(_block(f"data_prep.{name}", f"{module}.{name}"))
    return "\n\n".join(parts) + "\n"


def _block(title: str, path: str) -> str:
    return f"## {title}\n\n::: {path}\n    options:\n      show_root_heading: false\n      show_root_toc_entry: false\n"


def on_files(files: Any, config: Any) -> Any:
    """Adds the page to the site (an event of mkdocs)."""
    from mkdocs.structure.files import File

    files.append(File.generated(config, "verbs.md", content=page()))
    return files
