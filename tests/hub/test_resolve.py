"""Where weights come from. The Hub is a small HTTP server on this machine, its client the real one."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from hub import WeightsError, resolve

ROOT = Path(__file__).parents[2]
COMMIT = "a" * 40


@pytest.mark.parametrize("kind", [str, Path])
def test_folder(release_folder, kind):
    assert resolve(kind(release_folder)).folder == release_folder


def test_folder_is_taken_before_a_repository(release_folder, monkeypatch):
    monkeypatch.chdir(release_folder.parent.parent)
    name = f"{release_folder.parent.name}/{release_folder.name}"
    assert resolve(name).version == "0.1.0"


@pytest.mark.parametrize(
    ("weights", "says"),
    [
        ("", "'': no such folder; expected 'embedded', a folder with manifest.json, or user/repo"),
        ("nowhere", "'nowhere': no such folder"),
        ("./a/b/c", "'./a/b/c': no such folder"),
        ("../weights", "'../weights': no such folder"),
        ("/nowhere/at", "'/nowhere/at': no such folder"),
        ("user/repo@", "'user/repo@': no such folder"),
        ("user/repo@a b", "no such folder"),
        (str(ROOT / "LICENSE"), "LICENSE': a file; expected"),
        (str(ROOT / "tests"), r"manifest\.json: no such file; expected a release with config\.json"),
    ],
)
def test_what_is_no_release_is_said(weights, says):
    with pytest.raises(WeightsError, match=says):
        resolve(weights)


class Hub(ThreadingHTTPServer):
    """The two requests that the client makes for a file of a model repository: HEAD and GET of /resolve/."""

    def __init__(self, folder: Path):
        super().__init__(("127.0.0.1", 0), Handler)
        self.folder = folder
        self.repositories = {"user/repo": {"main": COMMIT, "v0.1.0": COMMIT, COMMIT: COMMIT}, "user/empty": {}}
        self.fetched: list[str] = []


class Handler(BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"

    def do_HEAD(self):
        self.answer(with_body=False)

    def do_GET(self):
        self.answer(with_body=True)

    def answer(self, with_body: bool):
        user, name, _, revision, file = (self.path.split("?")[0].strip("/") + "////").split("/", 4)
        file = file.rstrip("/")
        if f"{user}/{name}" == "user/gated":
            return self.refuse(403, "GatedRepo")
        repository = self.server.repositories.get(f"{user}/{name}")
        if repository is None:
            return self.refuse(401, "RepoNotFound")
        if revision not in repository:
            return self.refuse(404, "RevisionNotFound")
        path = self.server.folder / file
        if not path.is_file():
            return self.refuse(404, "EntryNotFound", repository[revision])
        content = path.read_bytes()
        self.send_response(200)
        self.send_header("ETag", f'"{hashlib.sha1(content).hexdigest()}"')
        self.send_header("X-Repo-Commit", repository[revision])
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if with_body:
            self.server.fetched.append(f"{revision[:6]} {file}")
            self.wfile.write(content)

    def refuse(self, status: int, code: str, commit: str | None = None):
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        self.send_header("X-Error-Message", code)
        if commit:
            self.send_header("X-Repo-Commit", commit)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.fixture
def hub_server(release_folder):
    server = Hub(release_folder)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def run_with_hub(hub_server, tmp_path):
    """Run Python code in a process of its own, because the client reads its settings when it is imported."""

    def run(code: str, **environment: str) -> subprocess.CompletedProcess:
        env = {name: value for name, value in os.environ.items() if "proxy" not in name.lower() and name[:3] != "HF_"}
        env |= {"HF_ENDPOINT": f"http://127.0.0.1:{hub_server.server_port}", "HF_HOME": str(tmp_path / "hf")}
        env |= {"HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1", **environment}
        return subprocess.run(
            [sys.executable, "-c", code], cwd=ROOT, env=env, capture_output=True, text=True, timeout=60
        )

    return run


USE = """
from hub import resolve
release = resolve({weights!r})
print(release.version, release.precisions, release.file("onnx/int8/detector.onnx").read_text())
"""
USED = "0.1.0 ('int8', 'fp32') int8 detector\n"


@pytest.mark.parametrize("revision", ["", "@main", "@v0.1.0", f"@{COMMIT}"])
def test_only_the_files_in_use_are_fetched_and_of_one_commit(hub_server, run_with_hub, revision):
    done = run_with_hub(USE.format(weights=f"user/repo{revision}"))
    assert (done.stdout, done.returncode) == (USED, 0), done.stderr
    asked = (revision[1:] or "main")[:6]
    assert hub_server.fetched == [f"{asked} manifest.json", "aaaaaa config.json", "aaaaaa onnx/int8/detector.onnx"]


def test_what_was_fetched_once_works_offline(hub_server, run_with_hub):
    run_with_hub(USE.format(weights="user/repo"))
    hub_server.fetched.clear()
    done = run_with_hub(USE.format(weights="user/repo"), HF_HUB_OFFLINE="1")
    assert (done.stdout, hub_server.fetched) == (USED, []), done.stderr


@pytest.mark.parametrize(
    ("weights", "environment", "says"),
    [
        pytest.param("user/none", {}, "no such repository on the Hub, or it is private; log in", id="no repository"),
        pytest.param("user/gated", {}, "gated; accept its terms", id="gated"),
        pytest.param("user/repo@v9", {}, "user/repo@v9: the repository has no such revision", id="no revision"),
        pytest.param("user/repo", {"HF_HUB_OFFLINE": "1"}, "HF_HUB_OFFLINE is set", id="offline"),
        pytest.param("user/a--b", {}, "could not be fetched", id="a name the Hub refuses"),
    ],
)
def test_hub_errors_are_one_line(run_with_hub, weights, environment, says):
    done = run_with_hub(
        f"import sys; from hub.__main__ import main; sys.exit(main(['verify', '{weights}']))", **environment
    )
    assert done.returncode == 2
    assert says in done.stderr
    assert done.stderr.count("\n") == 1
    assert "Traceback" not in done.stderr


def test_repository_without_a_release(hub_server, run_with_hub, release_folder):
    (release_folder / "manifest.json").unlink()
    done = run_with_hub("import sys; from hub.__main__ import main; sys.exit(main(['verify', 'user/repo']))")
    assert "user/repo@main: holds no manifest.json; expected a repository with an AutoMedSeg release." in done.stderr


def test_damaged_download_is_refused_and_says_what_to_delete(run_with_hub, release_folder):
    (release_folder / "onnx/int8/detector.onnx").write_bytes(b"INT8 detector")
    code = "import sys; from hub.__main__ import main; sys.exit(main(['verify', 'user/repo']))"
    done = run_with_hub(code)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert "onnx/int8/detector.onnx: sha256" in line
    blob = Path(line.split("Delete ")[1].split(", then")[0])
    blob.unlink()
    (release_folder / "onnx/int8/detector.onnx").write_bytes(b"int8 detector")
    assert run_with_hub(code).returncode == 0
