"""HTML pages from templates; the only importer of jinja2.

Texts are escaped; only our own drawings go in as they are.
"""

from __future__ import annotations

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
        from markupsafe import Markup
    environment = Environment(
        loader=PackageLoader("recsys", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    drawn = {name: Markup(svg) for name, svg in plots.items()}
    return environment.get_template(template).render(plots=drawn, **values)
