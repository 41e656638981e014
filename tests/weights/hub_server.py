"""A local server with the few endpoints of the Hugging Face Hub that uploads and downloads of models need."""

import base64
import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

COMMIT = "1" * 40


class HubServer:
    """Keeps the files of one commit of each repository; writing needs the token ``hf_good``."""

    def __init__(self) -> None:
        self.repositories: dict[str, dict[str, bytes]] = {}
        self.private: dict[str, bool] = {}
        self.requests: list[str] = []
        self.blobs: dict[str, bytes] = {}
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                server.get(self, self.path.partition("?")[0], with_body=True)

            def do_HEAD(self) -> None:
                server.get(self, self.path.partition("?")[0], with_body=False)

            def do_POST(self) -> None:
                server.post(self, self.path.partition("?")[0])

            def do_PUT(self) -> None:
                server.put(self, self.path)

            def log_message(self, *_: Any) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.http.shutdown()
        self.http.server_close()

    def get(self, handler: Any, path: str, *, with_body: bool) -> None:
        self.requests.append(f"{handler.command} {path}")
        parts = path.strip("/").split("/")
        if parts[:2] == ["api", "models"]:
            files = self.repositories.get("/".join(parts[2:4]))
            if files is None:
                answer(handler, 404, {"error": "not found"}, {"X-Error-Code": "RepoNotFound"})
            elif parts[4:5] == ["revision"] and parts[5] not in ("main", COMMIT):
                answer(handler, 404, {"error": "no revision"}, {"X-Error-Code": "RevisionNotFound"})
            else:
                siblings = [{"rfilename": name} for name in files]
                answer(handler, 200, {"id": "/".join(parts[2:4]), "sha": COMMIT, "siblings": siblings, "tags": []})
        elif len(parts) > 4 and parts[2] == "resolve":
            body = self.repositories.get("/".join(parts[:2]), {}).get("/".join(parts[4:]))
            if body is None:
                answer(handler, 404, {"error": "not found"}, {"X-Error-Code": "EntryNotFound"})
                return
            headers = {"ETag": f'"{hashlib.sha1(body).hexdigest()}"', "X-Repo-Commit": COMMIT}
            answer(handler, 200, body, headers, with_body=with_body)
        else:
            answer(handler, 404, {"error": "not found"})

    def post(self, handler: Any, path: str) -> None:
        self.requests.append(f"POST {path}")
        body = handler.rfile.read(int(handler.headers.get("Content-Length") or 0))
        if not body and handler.headers.get("Transfer-Encoding") == "chunked":
            while size := int(handler.rfile.readline().strip() or b"0", 16):
                body += handler.rfile.read(size)
                handler.rfile.readline()
            handler.rfile.readline()
        if handler.headers.get("Authorization") != "Bearer hf_good":
            answer(handler, 401, {"error": "Invalid username or password."})
        elif path == "/api/repos/create":
            asked = json.loads(body)
            name = f"{asked.get('organization') or 'me'}/{asked['name']}"
            self.repositories.setdefault(name, {})
            self.private[name] = asked.get("private") or asked.get("visibility") == "private"
            answer(handler, 200, {"url": f"{self.url}/{name}", "id": name})
        elif path == "/api/validate-yaml":  # of a model card
            answer(handler, 200, {"errors": [], "warnings": []})
        elif "/preupload/" in path:
            files = [{"path": one["path"], "uploadMode": "regular"} for one in json.loads(body)["files"]]
            answer(handler, 200, {"files": [{**one, "shouldIgnore": False, "oid": None} for one in files]})
        elif "/commit/" in path:
            files = self.repositories["/".join(path.strip("/").split("/")[2:4])]
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            name = "/".join(path.strip("/").split("/")[2:4])
            commit = {"commitOid": COMMIT, "commitUrl": f"{self.url}/{name}/commit/{COMMIT}", "success": True}
            answer(handler, 200, {**commit, "commitMessage": "m"})
        else:
            answer(handler, 404, {"error": "not found"})

    def put(self, handler: Any, path: str) -> None:
        self.requests.append(f"PUT {path}")
        answer(handler, 404, {"error": "not found"})


def answer(
    handler: Any, status: int, body: Any, headers: dict[str, str] | None = None, *, with_body: bool = True
) -> None:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    handler.send_response(status)
    for name, value in (headers or {}).items():
        handler.send_header(name, value)
    handler.send_header("Content-Type", "application/octet-stream" if isinstance(body, bytes) else "application/json")
    handler.send_header("Content-Length", str(len(content)))
    handler.end_headers()
    if with_body and handler.command != "HEAD":
        handler.wfile.write(content)
