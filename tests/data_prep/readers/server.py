"""A local file server with Range support that can break off in the middle of a file."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Site:
    address: str
    files: dict[str, bytes]
    break_after: int | None = None
    """The first answer ends after so many bytes, though it promised more."""
    keeps_breaking: bool = False
    """So does every answer."""
    ranges: bool = True
    versions: dict[str, str] = field(default_factory=dict)
    """ETag of each file, where there is one."""
    heeds_if_range: bool = True
    asked: list[tuple[str, str | None]] = field(default_factory=list)
    """(path, Range header) of every request."""


@contextmanager
def serve(files: dict[str, bytes]) -> Iterator[Site]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            wanted = self.headers.get("Range")
            site.asked.append((self.path, wanted))
            body = site.files.get(self.path.lstrip("/"))
            if body is None:
                return self.send_error(404)
            version, known = site.versions.get(self.path.lstrip("/")), self.headers.get("If-Range")
            if known and site.heeds_if_range and known != version:
                wanted = None
            start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and site.ranges else 0
            if start and start >= len(body):
                return self.send_error(416)
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(len(body) - start))
            if version:
                self.send_header("ETag", version)
            self.end_headers()
            stop = site.break_after
            site.break_after = stop if site.keeps_breaking else None
            self.wfile.write(body[start:][:stop])
            return None

        def log_message(self, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    site = Site(f"http://127.0.0.1:{server.server_port}", files)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield site
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
