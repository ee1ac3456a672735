"""A server on loopback with what spjax uses of the Hugging Face hub's API.

Repositories are kept in memory: files by revision, pull requests, and the commits that are made.
"""

import base64
import contextlib
import hashlib
import http.server
import json
import threading
import urllib.parse


class Hub:
    """Repositories by kind and name ("models", "org/name"), served at `url`.

    Attributes:
      requests: method and path of every request.
      private: kinds and names of private repositories.
    """

    def __init__(self):
        self.repositories, self.pull_requests, self.requests = {}, {}, []
        self.private = set()
        handler = type("Handler", (_Handler,), {"hub": self})
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    @contextlib.contextmanager
    def served(self):
        self._thread.start()
        yield self
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def add(self, kind, name, files, revision="main"):
        """Puts files, bytes by name, at a revision of a repository; returns the commit."""
        self.repositories.setdefault((kind, name), {})[revision] = dict(files)
        return commit_of(files)

    def add_folder(self, kind, name, folder, revision="main"):
        """Puts the files of a folder there; returns the commit."""
        paths = (path for path in folder.rglob("*") if path.is_file())
        files = {str(path.relative_to(folder)): path.read_bytes() for path in paths}
        return self.add(kind, name, files, revision)

    def add_pull_request(self, name, number, author, files, title="Adding `safetensors`"):
        self.add("models", name, files, f"refs/pr/{number}")
        self.pull_requests.setdefault(name, []).append(
            {
                "num": number,
                "author": {"name": author},
                "title": title,
                "status": "open",
                "isPullRequest": True,
                "createdAt": "2024-01-01T00:00:00.000Z",
                "repo": {"name": name, "type": "model"},
            }
        )

    def files(self, kind, name, revision):
        """Returns the files at a revision or commit, None where there are none."""
        revisions = self.repositories.get((kind, name), {})
        by_commit = {commit_of(files): files for files in revisions.values()}
        return revisions.get(revision, by_commit.get(revision))


def commit_of(files):
    """Returns the hash of a commit: 40 hexadecimal digits."""
    text = "".join(f"{name} {hashlib.sha1(files[name]).hexdigest()}\n" for name in sorted(files))
    return hashlib.sha1(text.encode()).hexdigest()


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub = None

    def log_message(self, *arguments):
        """Writes nothing."""

    def do_HEAD(self):
        self._answer()

    def do_GET(self):
        self._answer()

    def do_POST(self):
        self._answer()

    def _answer(self):
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length)
        path = urllib.parse.unquote(urllib.parse.urlsplit(self.path).path).strip("/")
        self.hub.requests.append((self.command, path))
        parts = path.split("/")
        if parts[0] == "api":
            self._api(parts[1:], body)
        else:
            kind = parts.pop(0) if parts[0] == "datasets" else "models"
            self._file(kind, "/".join(parts[:2]), parts[3:])

    def _send(self, content, status=200, headers=None):
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in {**(headers or {}), "Content-Length": str(len(data))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def _missing(self, code):
        self._send({"error": code}, 404, {"X-Error-Code": code, "X-Error-Message": code})

    def _file(self, kind, name, parts):
        """A file at the longest prefix of the path that is a revision."""
        for split in range(1, len(parts)):
            files = self.hub.files(kind, name, "/".join(parts[:split]))
            if files is None:
                continue
            content = files.get("/".join(parts[split:]))
            commit = {"X-Repo-Commit": commit_of(files)}
            if content is None:
                headers = {**commit, "X-Error-Code": "EntryNotFound"}
                return self._send(b"", 404, headers)
            tag = f'"{hashlib.sha1(content).hexdigest()}"'
            return self._send(content, 200, {**commit, "ETag": tag})
        return self._missing("RevisionNotFound")

    def _api(self, parts, body):
        if parts == ["repos", "create"]:
            request = json.loads(body)
            name = "/".join(filter(None, (request.get("organization"), request["name"])))
            hidden = request.get("private") or request.get("visibility") == "private"
            if hidden and ("models", name) not in self.hub.repositories:
                self.hub.private.add(("models", name))
            self.hub.repositories.setdefault(("models", name), {"main": {}})
            return self._send({"url": f"{self.hub.url}/{name}", "name": name})
        if parts[0] == "validate-yaml":
            return self._send({"warnings": [], "errors": []})
        kind, name, action, rest = parts[0], "/".join(parts[1:3]), parts[3:4], parts[4:]
        if (kind, name) not in self.hub.repositories:
            return self._missing("RepoNotFound")
        action = action[0] if action else "revision"
        if action == "discussions":
            found = self.hub.pull_requests.get(name, [])
            return self._send({"discussions": found, "count": len(found), "start": 0})
        if action == "preupload":
            files = [
                {"path": file["path"], "uploadMode": "regular", "shouldIgnore": False}
                for file in json.loads(body)["files"]
            ]
            return self._send({"files": files})
        if action == "commit":
            return self._commit(kind, name, "/".join(rest), body)
        return self._revision(kind, name, action, rest, body)

    def _revision(self, kind, name, action, rest, body):
        """Facts of a revision, its tree, or of single paths in it."""
        for split in range(len(rest), 0, -1) if rest else (0,):
            files = self.hub.files(kind, name, "/".join(rest[:split]) or "main")
            if files is not None:
                break
        else:
            return self._missing("RevisionNotFound")
        rows = [_row(path, content) for path, content in sorted(files.items())]
        if action == "tree":
            return self._tree(rows, "/".join(rest[split:]))
        if action == "paths-info":
            fields = urllib.parse.parse_qs(body.decode())
            wanted = json.loads(body)["paths"] if body[:1] == b"{" else fields.get("paths", [])
            return self._send([row for row in rows if row["path"] in wanted])
        siblings = [
            {"rfilename": row["path"], "size": row["size"], "blobId": row["oid"]} for row in rows
        ]
        card = {"license": "apache-2.0"} if b"apache-2.0" in files.get("README.md", b"") else {}
        return self._send(
            {
                "id": name,
                "sha": commit_of(files),
                "siblings": siblings,
                "cardData": card,
                "private": (kind, name) in self.hub.private,
                "tags": [],
            }
        )

    def _tree(self, rows, under):
        """Files and folders in a folder, or below it."""
        query = urllib.parse.parse_qs(urllib.parse.urlsplit(self.path).query)
        deep = query.get("recursive", ["false"])[0].lower() in ("true", "1")
        start = f"{under}/" if under else ""
        rows = [row for row in rows if row["path"].startswith(start)]
        inner = {row["path"]: row["path"].removeprefix(start).split("/") for row in rows}
        folders = {start + "/".join(x[:i]) for x in inner.values() for i in range(1, len(x))}
        found = [row for row in rows if deep or len(inner[row["path"]]) == 1]
        found += [
            {"type": "directory", "path": path, "size": 0, "oid": "0" * 40}
            for path in sorted(folders)
            if deep or path.count("/") == start.count("/")
        ]
        return self._send(found) if found or not under else self._missing("EntryNotFound")

    def _commit(self, kind, name, revision, body):
        files = dict(self.hub.repositories[kind, name].get(revision, {}))
        for line in body.splitlines():
            row = json.loads(line)
            if row["key"] == "file":
                files[row["value"]["path"]] = base64.b64decode(row["value"]["content"])
        commit = self.hub.add(kind, name, files, revision)
        url = f"{self.hub.url}/{name}/commit/{commit}"
        return self._send({"success": True, "commitOid": commit, "commitUrl": url})


def _row(path, content):
    return {
        "type": "file",
        "path": path,
        "size": len(content),
        "oid": hashlib.sha1(content).hexdigest(),
    }
