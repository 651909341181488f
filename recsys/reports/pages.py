"""HTML pages from templates; the only importer of jinja2.

Texts are escaped; only our own drawings go in as they are.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from recsys.extras import extra


def render(template: str, plots: Mapping[str, str], **values: Any) -> str:
    """One self-contained page.

    Args:
        template: path of a template in the package.
        plots: our own drawings, name -> SVG.
        values: whatever else the template names.

    Raises:
        InstallationError: jinja2 is not installed.
    """
    with extra("report"):
        from jinja2 import Environment, PackageLoader, StrictUndefined
        from markupsafe import Markup, escape
    environment = Environment(
        loader=PackageLoader("recsys", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )

    def prose(text: str) -> Markup:
        """A sentence: `code` in a typeface of its own, and no line break before a per cent sign."""
        marked = re.sub("`([^`]+)`", r"<code>\1</code>", str(escape(text)))
        return Markup(re.sub(r"(?<=\d) %", "\N{NO-BREAK SPACE}%", marked))

    environment.filters["prose"] = prose
    drawn = {name: Markup(svg) for name, svg in plots.items()}
    return environment.get_template(template).render(plots=drawn, **values)
