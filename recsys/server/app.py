"""The application of one worker, and the command that runs workers."""

from __future__ import annotations

import asyncio
import logging
import os
import tempfile
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from importlib.metadata import version
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from recsys.errors import ConfigError
from recsys.extras import extra
from recsys.retrieval.bundle.manifest import read_manifest
from recsys.retrieval.bundle.versions import find_bundle
from recsys.server.answering.batching import Batcher
from recsys.server.items.log import ItemLog
from recsys.server.memory import settle
from recsys.server.settings import ItemSettings, ServerSettings
from recsys.server.versions import SHARED, Versions
from recsys.server.web.gate import Gate
from recsys.server.web.metrics import FOLDER, Metrics

with extra("serve"):
    import uvicorn
    from fastapi import FastAPI, Request
    from fastapi.exceptions import RequestValidationError
    from fastapi.responses import FileResponse, JSONResponse

    from recsys.server.web.routes import Server, routes_of

KEY = "RECSYS_API_KEY"
_SETTINGS = "RECSYS_SERVER"
_PAGE = Path(__file__).parent / "page"
_FILES = {"page.css": "text/css", "page.js": "text/javascript"}
_POLICY = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "connect-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "Cache-Control": "no-cache",
}
logger = logging.getLogger("recsys.server")


def make_app(settings: ServerSettings, *, alone: bool = False) -> FastAPI:
    """The application; it opens and warms the bundle before it takes the first request.

    Args:
        settings: of the server.
        alone: its process does nothing else, so threads and garbage collection are set up for it.

    Raises:
        ConfigError: the file of the key cannot be read, or run-time items cannot be taken so.
    """
    check_items(settings)
    metrics, key = Metrics(), key_of(settings)
    versions = Versions(settings, metrics)
    batcher = Batcher(waiting=settings.waiting, together=settings.together, told=metrics.step)
    server = Server(settings, metrics, versions, batcher)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await asyncio.to_thread(versions.open)
        if alone:
            settle()
        batcher.start()  # an application may be started again
        watching = [
            asyncio.create_task(_again_and_again(versions.renew, settings.watch)),
            asyncio.create_task(_again_and_again(versions.look, _pause_of(settings.items))),
        ]
        logger.info("ready: http://%s:%s", settings.host, settings.port)
        yield
        for task in watching:
            task.cancel()
        await asyncio.to_thread(batcher.stop)

    app = FastAPI(
        title="recsys",
        version=version("recsys"),
        summary="Recommendations from a bundle of nested vectors.",
        lifespan=lifespan,
        docs_url=None,  # their pages would be fetched from elsewhere
        redoc_url=None,
    )
    app.state.server = server
    app.include_router(routes_of(server))
    if settings.page:
        _add_page(app)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_middleware(Gate, settings=settings, key=key, metrics=metrics)
    return app


def from_environment() -> FastAPI:
    """The application of a worker process."""
    return make_app(ServerSettings.model_validate_json(os.environ[_SETTINGS]), alone=True)


def key_of(settings: ServerSettings) -> str | None:
    """The API key; None: requests need none.

    Raises:
        ConfigError: its file cannot be read, or holds none.
    """
    if settings.key_file is None:
        return os.environ.get(KEY) or None
    try:
        key = settings.key_file.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"the API key cannot be read from {settings.key_file} ({error}); give a "
            "file with one line of ASCII text"
        ) from error
    if not key.isascii() or not key:
        raise ConfigError(f"{settings.key_file} holds no key; write one line of ASCII text")
    return key


def check_items(settings: ServerSettings) -> None:
    """Raises ConfigError unless run-time items can be taken safely, where they are."""
    folder = settings.items.folder
    if folder is None:
        return
    if key_of(settings) is None and not _is_loopback(settings.host):
        raise ConfigError(
            f"without an API key, everyone who reaches {settings.host} could put and delete items; "
            f"give a key (--key-file, or the variable {KEY}), or listen at 127.0.0.1"
        )
    version = find_bundle(settings.bundle).resolve()
    if folder.resolve().is_relative_to(version):
        raise ConfigError(
            f"{folder} is inside the version {version}, which would no longer be what was "
            "exported; name a folder beside it"
        )


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def run(settings: ServerSettings) -> None:
    """Serves until it is told to stop.

    Raises:
        DataError, ChecksumError: there is no bundle to serve.
        ConfigError: there is no key where one is needed, or its file cannot be read.
    """
    read_manifest(find_bundle(settings.bundle))
    key_of(settings)
    check_items(settings)
    if settings.items.folder is not None:
        ItemLog(settings.items.folder)
    with tempfile.TemporaryDirectory(prefix="recsys-serve-") as shared:
        os.environ[_SETTINGS] = settings.model_dump_json()
        os.environ[SHARED] = shared
        if settings.workers > 1:
            os.environ[FOLDER] = shared
        uvicorn.run(
            "recsys.server.app:from_environment",
            factory=True,
            host=settings.host,
            port=settings.port,
            workers=settings.workers,
            access_log=False,
            server_header=False,
            log_config=log_config(),
            timeout_keep_alive=20,
            timeout_graceful_shutdown=round(settings.grace),
            timeout_worker_healthcheck=20,  # one killed while it is asked is missed for so long
        )


async def _again_and_again(look: Callable[[], bool], seconds: float) -> None:
    """Looks for what is new, every so many seconds (0: never); the searches go on meanwhile.

    In one thread: versions opened in many would each leave memory with their own.
    """
    loop, thread = asyncio.get_running_loop(), ThreadPoolExecutor(1, "recsys-looks")
    try:
        while seconds:
            await asyncio.sleep(seconds)
            try:
                await loop.run_in_executor(thread, look)
            except Exception:  # the next look may succeed
                logger.exception("the look for something new failed")
    finally:
        thread.shutdown(wait=False)


def _pause_of(items: ItemSettings) -> float:
    return 0 if items.folder is None else items.watch


def _add_page(app: FastAPI) -> None:
    @app.get("/", include_in_schema=False)
    def page() -> FileResponse:
        return FileResponse(_PAGE / "index.html", media_type="text/html", headers=_POLICY)

    @app.get("/page/{name}", include_in_schema=False)
    def part(name: str) -> Any:
        if name not in _FILES:
            return JSONResponse({"detail": "the page has no such file"}, 404)
        return FileResponse(_PAGE / name, media_type=_FILES[name], headers=_POLICY)


def _invalid(_: Request, error: Any) -> JSONResponse:
    """What is wrong with a request, without what was sent: it may be anything."""
    lines = [
        f"{'.'.join(str(part)[:100] for part in issue['loc'])}: {issue['msg'][:300]}"
        for issue in error.errors()[:10]
    ]
    text = "; ".join(lines).encode("utf-8", "replace").decode()
    return JSONResponse({"detail": text}, 422)


def log_config() -> dict[str, Any]:
    """A line of JSON for everything, to standard output."""
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {
            "json": {"()": "recsys.server.web.logs.JsonLines"},
            "bare": {"format": "%(message)s"},
        },
        "handlers": {
            "out": {
                "class": "logging.StreamHandler",
                "stream": "ext://sys.stdout",
                "formatter": "json",
            },
            "requests": {
                "class": "logging.StreamHandler",
                "stream": "ext://sys.stdout",
                "formatter": "bare",
            },
        },
        "loggers": {
            "uvicorn": {"handlers": ["out"], "level": "INFO", "propagate": False},
            "recsys.server": {"handlers": ["out"], "level": "INFO", "propagate": False},
            "recsys.server.requests": {
                "handlers": ["requests"],
                "level": "INFO",
                "propagate": False,
            },
        },
    }
