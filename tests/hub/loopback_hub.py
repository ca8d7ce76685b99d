"""The Hub's protocol on this machine: repositories, commits, tags, large files, for the real client to talk to.

What the client of huggingface_hub 2 asks for, as its own source asks it, and answers as the Hub gives them: the codes
in `X-Error-Code`, large files through LFS and behind a redirect to another host, parts of them by `Range`. Everything
is held in memory. Faults can be put in: a cut connection, a flipped byte, a commit that waits for another.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

#: token -> (who it is, whether it may write)
TOKENS = {"hf_user": ("user", True), "hf_other": ("other", True), "hf_reader": ("user", False)}
LFS_SUFFIXES = (".onnx", ".safetensors", ".png")
_REPO = r"(?P<kind>models|spaces|datasets)/(?P<repo>[^/]+/[^/]+)"
_WEB = r"(?:(?P<kind>spaces|datasets)/)?(?P<repo>[^/]+/[^/]+)"


@dataclass
class Commit:
    """A commit: name -> (git digest, content or None for a large file, its sha256 or None, bytes)."""

    oid: str
    title: str
    files: dict[str, tuple[str, bytes | None, str | None, int]]


@dataclass
class Repository:
    """One repository with its history, newest commit last."""

    kind: str
    private: bool
    commits: list[Commit] = field(default_factory=list)
    tags: dict[str, str] = field(default_factory=dict)

    def find(self, revision: str) -> Commit | None:
        if revision == "main":
            return self.commits[-1]
        oid = self.tags.get(revision, revision)
        return next((commit for commit in self.commits if commit.oid == oid), None)


class Answer(Exception):
    """What a request is answered with, where it is no plain success."""

    def __init__(self, status: int, code: str = "", message: str = ""):
        super().__init__(message or code)
        self.status, self.code, self.message = status, code, message or code


class LoopbackHub(ThreadingHTTPServer):
    """The server. `url` is what HF_ENDPOINT has to be."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.repositories: dict[tuple[str, str], Repository] = {}
        self.large: dict[str, bytes] = {}
        self.lock = threading.RLock()
        #: what was asked for, such as 'GET /user/repo/resolve/main/manifest.json bytes=5-'
        self.log: list[str] = []
        self.cut_downloads: list[int] = []  # of the next large downloads, after so many bytes each
        self.cut_uploads: list[int] = []  # of the next large uploads
        self.before_create: Callable[[], object] = lambda: None
        self.before_upload: Callable[[str], object] = lambda sha256: None
        self.before_commit: Callable[[], object] = lambda: None
        self.before_tag: Callable[[], object] = lambda: None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def add(self, repo: str, files: dict[str, bytes], *, tag: str | None = None, private: bool = False) -> str:
        """Put a commit that holds just these files into a repository, as someone with git would -> its id."""
        with self.lock:
            repository = self.repositories.setdefault(("models", repo), Repository("models", private))
            commit = self._commit(repository, {name: self._entry(name, data) for name, data in files.items()}, "by git")
            if tag:
                repository.tags[tag] = commit.oid
            return commit.oid

    def content(self, repo: str, revision: str, name: str) -> bytes:
        _, small, sha256, _ = self.repositories["models", repo].find(revision).files[name]
        return self.large[sha256] if small is None else small

    def flip_byte(self, repo: str, revision: str, name: str) -> None:
        """Change one byte of a file where it is kept, so that every digest stays what it was."""
        commit = self.repositories["models", repo].find(revision)
        digest, small, sha256, size = commit.files[name]
        content = bytearray(self.content(repo, revision, name))
        content[len(content) // 2] ^= 1
        if small is None:
            self.large[sha256] = bytes(content)
        else:
            commit.files[name] = (digest, bytes(content), sha256, size)

    def new(self, kind: str, repo: str, private: bool) -> Repository:
        repository = self.repositories[kind, repo] = Repository(kind, private)
        self._commit(repository, {".gitattributes": self._entry(".gitattributes", b"*.onnx filter=lfs\n")}, "initial")
        return repository

    def apply(self, repository: Repository, title: str, parent: str | None, lines: list[dict]) -> Commit:
        """A commit of the lines that the client sends; refused where `parent` is not the newest."""
        with self.lock:
            if parent and parent != repository.commits[-1].oid:
                raise Answer(412, message="A commit has happened since. Please refresh and try again.")
            files = dict(repository.commits[-1].files)
            for line in lines:
                value = line["value"]
                if line["key"] == "file":
                    files[value["path"]] = self._entry("", base64.b64decode(value["content"]))
                elif line["key"] == "lfsFile":
                    if value["oid"] not in self.large:
                        raise Answer(400, message=f"LFS object {value['oid']} does not exist")
                    files[value["path"]] = self._pointer(value["oid"], len(self.large[value["oid"]]))
                elif line["key"] == "deletedFile":
                    del files[value["path"]]
            return self._commit(repository, files, title)

    def _commit(self, repository: Repository, files: dict, title: str) -> Commit:
        told = json.dumps([title, len(repository.commits), sorted((name, e[0]) for name, e in files.items())])
        commit = Commit(hashlib.sha1(told.encode()).hexdigest(), title, files)
        repository.commits.append(commit)
        return commit

    def _entry(self, name: str, content: bytes) -> tuple[str, bytes | None, str | None, int]:
        if name.endswith(LFS_SUFFIXES):
            sha256 = hashlib.sha256(content).hexdigest()
            self.large[sha256] = content
            return self._pointer(sha256, len(content))
        return git_digest(content), content, None, len(content)

    def _pointer(self, sha256: str, size: int) -> tuple[str, None, str, int]:
        return git_digest(f"lfs {sha256} {size}".encode()), None, sha256, size

    def handle_error(self, request, client_address):
        pass  # a client that was stopped


def git_digest(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


class Handler(BaseHTTPRequestHandler):
    server: LoopbackHub
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.route()

    do_HEAD = do_POST = do_PUT = do_GET

    def route(self):
        parts = urlsplit(self.path)
        self.path_only, self.query = unquote(parts.path), parse_qs(parts.query)
        self.server.log.append(f"{self.command} {self.path_only} {self.headers.get('Range', '')}".rstrip())
        try:
            # an upload may be cut, so it reads its body itself
            self.body = b"" if self.path_only.startswith("/upload/") else self.read_body()
            for method, pattern, answer in ROUTES:
                found = re.fullmatch(pattern, self.path_only)
                if found and self.command in method.split():
                    parts = {k: v or "models" if k == "kind" else v for k, v in found.groupdict().items()}
                    return answer(self, **parts)
            raise Answer(404, message=f"no such address: {self.command} {self.path_only}")
        except Answer as answer:
            self.refuse(answer)
        except (ConnectionError, BrokenPipeError):
            self.close_connection = True

    # reading and answering

    def read_body(self, cut: int | None = None) -> bytes:
        if self.headers.get("Transfer-Encoding") == "chunked":
            body = b""
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
                if cut is not None and len(body) >= cut:
                    self.hang_up()
            self.rfile.readline()
            return body
        length = int(self.headers.get("Content-Length") or 0)
        if cut is not None and cut < length:
            self.rfile.read(cut)
            self.hang_up()
        return self.rfile.read(length)

    def hang_up(self):
        with suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)
        raise ConnectionError

    def send_json(self, content: object, status: int = 200, **headers: str):
        self.send_bytes(json.dumps(content).encode(), status, **{"Content-Type": "application/json", **headers})

    def send_bytes(self, content: bytes, status: int = 200, *, cut: int | None = None, **headers: str):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command == "HEAD":
            return
        self.wfile.write(content[:cut])
        if cut is not None and cut < len(content):
            self.wfile.flush()
            self.hang_up()

    def refuse(self, answer: Answer):
        headers = {"X-Error-Message": answer.message}
        if answer.code:
            headers["X-Error-Code"] = answer.code
        self.send_json({"error": answer.message}, answer.status, **headers)

    # who asks, and for what

    def who(self) -> tuple[str | None, bool]:
        given = self.headers.get("Authorization")
        if given is None:
            return None, False
        known = TOKENS.get(given.removeprefix("Bearer "))
        if known is None:
            raise Answer(401, message="Invalid credentials in Authorization header")
        return known

    def repository(self, kind: str, repo: str, *, write: bool = False) -> Repository:
        user, writes = self.who()
        found = self.server.repositories.get((kind, repo))
        owner = repo.split("/")[0]
        if repo == "user/gated":
            raise Answer(403, "GatedRepo")
        if found is None or (found.private and user != owner):
            raise Answer(404 if user else 401, "RepoNotFound", "Repository not found")
        if write and not (writes and user == owner):
            raise Answer(403, message="Forbidden: you must have write access to this repository")
        return found

    def commit_of(self, repository: Repository, revision: str) -> Commit:
        found = repository.find(revision)
        if found is None:
            raise Answer(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return found

    # the answers

    def create(self):
        user, writes = self.who()
        asked = json.loads(self.body)
        owner, kind = asked.get("organization") or user, f"{asked.get('type') or 'model'}s"
        repo = f"{owner}/{asked['name']}"
        if user is None:
            raise Answer(401, message="Invalid username or password.")
        self.server.before_create()
        address = f"{self.server.url}/{'' if kind == 'models' else kind + '/'}{repo}"
        with self.server.lock:
            if (kind, repo) in self.server.repositories:
                return self.send_json({"error": "You already created this repo", "url": address}, 409)
            if not writes or user != owner:
                raise Answer(403, message=f"You don't have the rights to create a repo under the namespace {owner!r}")
            self.server.new(kind, repo, asked.get("visibility") == "private")
        self.send_json({"url": address})

    def refs(self, kind: str, repo: str):
        found = self.repository(kind, repo)
        main = {"name": "main", "ref": "refs/heads/main", "targetCommit": found.commits[-1].oid}
        tags = [{"name": t, "ref": f"refs/tags/{t}", "targetCommit": oid} for t, oid in found.tags.items()]
        self.send_json({"branches": [main], "converts": [], "tags": tags})

    def info(self, kind: str, repo: str, revision: str | None = None):
        found = self.repository(kind, repo)
        self.send_json({"id": repo, "sha": self.commit_of(found, revision or "main").oid, "private": found.private})

    def tree(self, kind: str, repo: str, revision: str):
        entries = []
        for name, (digest, _, sha256, size) in self.commit_of(self.repository(kind, repo), revision).files.items():
            entry = {"type": "file", "path": name, "size": size, "oid": digest}
            entries.append(entry | ({"lfs": {"oid": sha256, "size": size, "pointerSize": 130}} if sha256 else {}))
        self.send_json(entries)

    def preupload(self, kind: str, repo: str, revision: str):
        commit = self.commit_of(self.repository(kind, repo, write=True), revision)
        told = []
        for file in json.loads(self.body)["files"]:
            old = commit.files.get(file["path"])
            mode = "lfs" if file["path"].endswith(LFS_SUFFIXES) else "regular"
            oid = (old[2] or old[0]) if old else None
            told.append({"path": file["path"], "uploadMode": mode, "shouldIgnore": False, "oid": oid})
        self.send_json({"files": told})

    def lfs_batch(self, kind: str, repo: str):
        self.repository(kind, repo, write=True)
        told = []
        for item in json.loads(self.body)["objects"]:
            href = f"{self.server.url}/upload/{item['oid']}"
            missing = item["oid"] not in self.server.large
            told.append(item | ({"actions": {"upload": {"href": href}}} if missing else {}))
        self.send_json({"transfer": "basic", "objects": told})

    def upload(self, sha256: str):
        self.server.before_upload(sha256)
        cut = self.server.cut_uploads.pop(0) if self.server.cut_uploads else None
        content = self.read_body(cut)
        if hashlib.sha256(content).hexdigest() != sha256:
            raise Answer(400, message="the content is not what was announced")
        self.server.large[sha256] = content
        self.send_bytes(b"")

    def commit(self, kind: str, repo: str, revision: str):
        found = self.repository(kind, repo, write=True)
        self.server.before_commit()
        header, *lines = (json.loads(line) for line in self.body.splitlines())
        value = header["value"]
        made = self.server.apply(found, value["summary"], value.get("parentCommit"), lines)
        self.send_json({"commitUrl": f"{self.server.url}/{repo}/commit/{made.oid}", "commitOid": made.oid})

    def tag(self, kind: str, repo: str, revision: str):
        found = self.repository(kind, repo, write=True)
        self.server.before_tag()
        name, target = json.loads(self.body)["tag"], self.commit_of(found, revision).oid
        with self.server.lock:
            if name in found.tags:
                raise Answer(409, message=f"Tag reference exists already: {name}")
            found.tags[name] = target
        self.send_json({})

    def validate_yaml(self):
        matter = json.loads(self.body)["content"].split("---\n")[1]
        if not re.search(r"^(license|sdk): ", matter, re.MULTILINE):
            return self.send_json({"errors": [{"message": '"license" is required'}]}, 400)
        self.send_json({"errors": [], "warnings": []})

    def resolve(self, kind: str, repo: str, revision: str, name: str):
        commit = self.commit_of(self.repository(kind, repo), revision)
        if name not in commit.files:
            headers = {"X-Error-Code": "EntryNotFound", "X-Error-Message": "Entry not found"}
            return self.send_json({"error": "Entry not found"}, 404, **headers, **{"X-Repo-Commit": commit.oid})
        digest, content, sha256, size = commit.files[name]
        headers = {"X-Repo-Commit": commit.oid}
        if sha256:
            # another host name, as the Hub's storage has: the client must not send it the token
            headers |= {"Location": f"http://localhost:{self.server.server_port}/stored/{sha256}"}
            headers |= {"X-Linked-ETag": f'"{sha256}"', "X-Linked-Size": str(size)}
            return self.send_bytes(b"", 302, **headers)
        self.send_bytes(content, ETag=f'"{digest}"', **headers)

    def stored(self, sha256: str):
        if self.headers.get("Authorization"):
            raise Answer(400, message="a token was sent to the storage")
        content = self.server.large[sha256]
        cut = self.server.cut_downloads.pop(0) if self.server.cut_downloads and self.command == "GET" else None
        part = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        headers = {"ETag": f'"{sha256}"', "Accept-Ranges": "bytes"}
        if part is None:
            return self.send_bytes(content, cut=cut, **headers)
        start = int(part[1])
        headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        self.send_bytes(content[start:], 206, cut=cut, **headers)

    def log_message(self, *_):
        pass


ROUTES = [
    ("POST", r"/api/repos/create", Handler.create),
    ("POST", r"/api/validate-yaml", Handler.validate_yaml),
    ("GET", rf"/api/{_REPO}/refs", Handler.refs),
    ("GET", rf"/api/{_REPO}/tree/(?P<revision>[^/]+)", Handler.tree),
    ("POST", rf"/api/{_REPO}/preupload/(?P<revision>.+)", Handler.preupload),
    ("POST", rf"/api/{_REPO}/commit/(?P<revision>.+)", Handler.commit),
    ("POST", rf"/api/{_REPO}/tag/(?P<revision>.+)", Handler.tag),
    ("GET", rf"/api/{_REPO}/revision/(?P<revision>.+)", Handler.info),
    ("GET", rf"/api/{_REPO}", Handler.info),
    ("POST", rf"/{_WEB}\.git/info/lfs/objects/batch", Handler.lfs_batch),
    ("PUT", r"/upload/(?P<sha256>[0-9a-f]{64})", Handler.upload),
    ("GET HEAD", r"/stored/(?P<sha256>[0-9a-f]{64})", Handler.stored),
    ("GET HEAD", rf"/{_WEB}/resolve/(?P<revision>[^/]+)/(?P<name>.+)", Handler.resolve),
]
