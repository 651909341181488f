"""The verb that serves a bundle over HTTP: serve."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer


def serve(
    bundle: Annotated[Path, typer.Argument(help="A bundle, made by `recsys export`.")],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[KEY=VALUE]...", help="Settings of the server: limits.k=50 waiting=500 ..."
        ),
    ] = None,
    host: Annotated[
        str, typer.Option(help="Address to listen at; 0.0.0.0: from other machines, too.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen at.")] = 8000,
    workers: Annotated[int, typer.Option(help="Processes.")] = 1,
    key_file: Annotated[
        Path | None, typer.Option(help="File with the API key [RECSYS_API_KEY, if set].")
    ] = None,
    items: Annotated[
        Path | None,
        typer.Option(
            help="Folder for items that are put and deleted while the server runs [default: it "
            "takes none]."
        ),
    ] = None,
) -> None:
    """Serves a bundle over HTTP, with a page at /; new versions are swapped in as they come."""
    from recsys.config import apply_overrides, parse
    from recsys.server.app import run
    from recsys.server.settings import ServerSettings

    told = {"host": host, "port": port, "workers": workers}
    places = {"bundle": bundle, "key_file": key_file}
    tree: dict[str, Any] = told | {
        name: str(path) for name, path in places.items() if path is not None
    }
    if items is not None:
        tree["items"] = {"folder": str(items)}
    settings = parse(ServerSettings, apply_overrides(tree, overrides or []), "the server")
    run(settings)
