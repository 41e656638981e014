"""A local file server for tests of downloads."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class FileServer:
    """Serves ``files``, and drops each connection after ``drop_after`` bytes while ``drops`` last."""

    def __init__(self):
        self.files: dict[str, bytes] = {}
        self.requests: list[tuple[str, str | None]] = []  # path and range
        self.drops, self.drop_after, self.ranges = 0, 1000, True
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                server.answer(self)

            def log_message(self, *_):
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.http.shutdown()
        self.http.server_close()

    def answer(self, handler):
        requested = handler.headers.get("Range")
        self.requests.append((handler.path, requested))
        body = self.files.get(handler.path.partition("?")[0])
        if body is None:
            handler.send_error(404)
            return
        start = int(requested.removeprefix("bytes=").rstrip("-")) if requested and self.ranges else 0
        if start >= len(body):
            handler.send_response(416)
            handler.send_header("Content-Range", f"bytes */{len(body)}")
            handler.end_headers()
            return
        handler.send_response(206 if start else 200)
        if start:
            handler.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        handler.send_header("Content-Length", str(len(body) - start))
        handler.end_headers()
        if self.drops:
            self.drops -= 1
            body = body[: start + self.drop_after]
        handler.wfile.write(body[start:])
