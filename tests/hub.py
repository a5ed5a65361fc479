"""A Hub on the loopback interface: as much of its HTTP interface as an upload uses.

It is the proxy of whoever is sent to it, too: what would leave this machine is refused and kept in
`elsewhere`.
"""

import base64
import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
TOKEN, READ_TOKEN = "hf_of_the_owner", "hf_that_may_only_read"


@dataclass
class Repository:
    """One model or dataset, with the files of its main branch."""

    private: bool
    files: dict[str, bytes] = field(default_factory=dict)


@dataclass
class Hub:
    """What there is, and what was asked.

    Attributes:
        lfs: whether large files go to a store of their own, as before the Hub had Xet; else all
            are in the commit.
        repositories: by kind and name, such as ("models", "me/czech").
        requests: method and path of each, in their order.
        elsewhere: hosts that were asked for through the proxy.
    """

    lfs: bool = True
    repositories: dict[tuple[str, str], Repository] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    elsewhere: list[str] = field(default_factory=list)
    stored: dict[str, bytes] = field(default_factory=dict)
    address: str = ""

    def run(
        self, *command: object, home: Path, token: str | None = TOKEN
    ) -> subprocess.CompletedProcess[str]:
        """Run a program for which this is the Hub, and all the network that there is."""
        known = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
        environment = {
            **known,
            "HF_ENDPOINT": self.address,
            "HF_HOME": str(home),
            **({"HF_TOKEN": token} if token else {}),
            **({"HF_HUB_DISABLE_XET": "1"} if self.lfs else {}),
            **dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"), self.address),
            "NO_PROXY": "127.0.0.1",
        }
        words = [sys.executable, "-m", *map(str, command)]
        return subprocess.run(words, capture_output=True, text=True, cwd=ROOT, env=environment)


@contextmanager
def open_hub(*, lfs: bool = True) -> Iterator[Hub]:
    """Run a Hub without repositories."""
    hub = Hub(lfs=lfs)
    handler = type("Handler", (_Handler,), {"hub": hub})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        hub.address = f"http://127.0.0.1:{server.server_port}"
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield hub
        finally:
            server.shutdown()


class _Handler(BaseHTTPRequestHandler):
    hub: Hub

    def log_message(self, *_: Any) -> None:
        """Say nothing: `Hub.requests` has it."""

    def do_CONNECT(self) -> None:
        self.hub.elsewhere.append(self.path)
        self.send_error(502)

    def do_GET(self) -> None:
        self._answer(b"")

    do_HEAD = do_GET

    def do_POST(self) -> None:
        self._answer(self.rfile.read(int(self.headers["Content-Length"])))

    def do_PUT(self) -> None:
        self._answer(self.rfile.read(int(self.headers["Content-Length"])))

    def _answer(self, body: bytes) -> None:
        if not self.path.startswith("/"):
            self.hub.elsewhere.append(self.path)
            return self.send_error(502)
        path = self.path.split("?")[0]
        self.hub.requests.append(f"{self.command} {path}")
        parts = path.strip("/").split("/")
        if parts[0] == "store":  # signed addresses: no token is sent there
            self.hub.stored[parts[1]] = body
            return self._say(200, {})
        if parts[:1] == ["api"] and self.command == "GET":
            return self._repository(parts[1], "/".join(parts[2:4]))
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if token != TOKEN:
            known = token == READ_TOKEN
            return self._say(403 if known else 401, {"error": "Invalid username or password."})
        if path == "/api/repos/create":
            return self._create(json.loads(body))
        if path == "/api/validate-yaml":
            return self._say(200, {"errors": [], "warnings": []})
        if parts[-1] == "batch":
            return self._batch(json.loads(body))
        if parts[-2] == "preupload":
            return self._preupload(json.loads(body))
        if parts[-2] == "commit":
            lines = [json.loads(line) for line in body.splitlines()]
            return self._commit((parts[1], "/".join(parts[2:4])), lines)
        return self._say(404, {"error": "not found"})

    def _repository(self, kind: str, name: str) -> None:
        if (kind, name) not in self.hub.repositories:
            return self._say(
                404, {"error": "Repository not found"}, {"X-Error-Code": "RepoNotFound"}
            )
        return self._say(200, {"id": name, "sha": "0" * 40, "private": False, "siblings": []})

    def _create(self, asked: dict[str, Any]) -> None:
        name = f"{asked['organization'] or 'me'}/{asked['name']}"
        kind = f"{asked.get('type', 'model')}s"
        prefix = "" if kind == "models" else f"{kind}/"
        there = (kind, name) in self.hub.repositories
        if not there:
            private = asked.get("visibility") == "private"
            self.hub.repositories[kind, name] = Repository(private)
        self._say(409 if there else 200, {"url": f"{self.hub.address}/{prefix}{name}"})

    def _preupload(self, asked: dict[str, Any]) -> None:
        large = (".safetensors", ".parquet", ".onnx")
        self._say(200, {"files": [
            {"path": file["path"], "shouldIgnore": False,
             "uploadMode": "lfs" if self.hub.lfs and file["path"].endswith(large) else "regular"}
            for file in asked["files"]
        ]})  # fmt: skip

    def _batch(self, asked: dict[str, Any]) -> None:
        self._say(200, {"transfer": "basic", "objects": [
            {**file, "actions": {"upload": {"href": f"{self.hub.address}/store/{file['oid']}"}}}
            for file in asked["objects"]
        ]})  # fmt: skip

    def _commit(self, which: tuple[str, str], lines: list[dict[str, Any]]) -> None:
        files = self.hub.repositories[which].files
        for line in lines[1:]:
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            else:
                content = self.hub.stored[value["oid"]]
                assert hashlib.sha256(content).hexdigest() == value["oid"]
                files[value["path"]] = content
        prefix = "" if which[0] == "models" else f"{which[0]}/"
        address = f"{self.hub.address}/{prefix}{which[1]}/commit/{'1' * 40}"
        self._say(200, {"success": True, "commitOid": "1" * 40, "commitUrl": address})

    def _say(self, status: int, content: Any, headers: dict[str, str] | None = None) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", **(headers or {})}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def files_of(folder: Path) -> dict[str, bytes]:
    """The files in a folder, by their paths in it."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }
