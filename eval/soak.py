"""The page on a bad day: many clients for an hour, who upload good and bad files, cancel, leave, and fill the queue.

`python -m eval soak --minutes 60 --clients 8 --out runs/soak` starts `app.py`, drives it, and writes `soak.json` and
`soak.md`. The exit code is 1 where the log holds an unhandled error, memory grew by more than the limit, or a client
was told something that is neither an answer nor a sentence.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import psutil
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from gradio_client.utils import QueueError

from eval.soak_files import write_soak_files
from hub.files import replace_file
from hub.revision import machine_name
from hub.tables import markdown_table
from pipeline.errors import InputError

_ROOT = Path(__file__).parents[1]
#: MB that the server may grow by.
_MOST_GROWN_MB = 100
_SAMPLE_SECONDS, _FLOOD_SECONDS, _FLOOD = 5, 120, 60
_START_SECONDS, _REST_SECONDS = 180, 90


@dataclass
class Tally:
    """What came of the requests of one kind."""

    seconds: list[float] = field(default_factory=list)
    refusals: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    full: int = 0
    left: int = 0
    strange: dict[str, int] = field(default_factory=lambda: defaultdict(int))

    def to_json(self) -> dict:
        times = sorted(self.seconds)
        share = {name: times[min(len(times) - 1, int(len(times) * at))] if times else None
                 for name, at in (("p50", 0.5), ("p95", 0.95), ("max", 1.0))}  # fmt: skip
        return {
            "answered": len(times),
            "refused": dict(self.refusals),
            "queue_full": self.full,
            "left_by_the_client": self.left,
            "neither_answer_nor_sentence": dict(self.strange),
            "seconds": {name: None if value is None else round(value, 2) for name, value in share.items()},
        }


class Visitors:
    """The clients, and what they do: each method is one visit, and ends by itself."""

    def __init__(self, url: str, files: dict[str, Path]):
        self.url, self.files = url, files
        self.tallies: dict[str, Tally] = defaultdict(Tally)
        self.full_said: set[str] = set()
        self._lock = threading.Lock()

    def visit(self, kind: str, client: Client, chance: random.Random) -> None:
        """One visit, timed."""
        start = time.perf_counter()
        tally = self.tallies[kind]
        try:
            answered = _VISITS[kind](self, client, chance)
            with self._lock:
                if answered:
                    tally.seconds.append(time.perf_counter() - start)
                else:
                    tally.left += 1
        except QueueError as error:
            with self._lock:
                tally.full += 1
                self.full_said.add(str(error))
        except AppError as error:
            with self._lock:
                said = str(error).replace("\n", " ")
                sentence = "expected" in said
                (tally.refusals if sentence else tally.strange)[said[:200]] += 1
        except Exception as error:  # noqa: BLE001 - whatever a client meets is what is looked for
            with self._lock:
                tally.strange[f"{type(error).__name__}: {error}"[:200]] += 1

    def _image(self, chance: random.Random) -> Path:
        return self.files[chance.choice(("chest", "brain", "polyp", "nifti", "dicom"))]

    def segment(self, client: Client, chance: random.Random) -> bool:
        precision = chance.choice(("int8", "int8", "int8", "fp32"))
        client.predict(image=handle_file(self._image(chance)), precision=precision, api_name="/segment")
        return True

    def correct(self, client: Client, chance: random.Random) -> bool:
        edits = [{"action": "add", "box": [10, 10, 60, 60]}, {"action": "click", "region": 1, "point": [30, 30]}]
        client.predict(image=handle_file(self._image(chance)), edits=edits, api_name="/correct")
        return True

    def compare(self, client: Client, chance: random.Random) -> bool:
        client.predict(image=handle_file(self._image(chance)), other="fp32", api_name="/compare")
        return True

    def bad_file(self, client: Client, chance: random.Random) -> bool:
        name = chance.choice(("text", "cut", "bomb", "empty_zip"))
        endpoint = chance.choice(("image", "stack"))
        given = handle_file(self.files[name])
        if endpoint == "image":
            client.predict(image=given, api_name="/segment")
        else:
            client.predict(files=[given], api_name="/segment_stack")
        return True

    def big_file(self, client: Client, chance: random.Random) -> bool:
        client.predict(image=handle_file(self.files["big"]), api_name="/segment")
        return True

    def stack(self, client: Client, chance: random.Random) -> bool:
        path = self.files[chance.choice(("volume", "video", "series"))]
        client.predict(files=[handle_file(path)], classes=["left_ventricle"], api_name="/segment_stack")
        return True

    def cancel(self, client: Client, chance: random.Random) -> bool:
        job = client.submit(files=[handle_file(self.files["long"])], api_name="/segment_stack")
        time.sleep(chance.uniform(0.2, 5))
        job.cancel()
        return False

    def leave_stack(self, client: Client, chance: random.Random) -> bool:
        """Close the connection in the middle of a long answer."""
        with httpx.Client(base_url=self.url, timeout=120) as http:
            given = [[_uploaded(http, self.files["long"])], "int8", ["lung"], 0.3, "auto", "auto"]
            self._begin_and_leave(http, "segment_stack", given, chance.uniform(0.5, 8))
        return False

    def leave_image(self, client: Client, chance: random.Random) -> bool:
        with httpx.Client(base_url=self.url, timeout=120) as http:
            given = [_uploaded(http, self.files["chest"]), "int8", ["lung"], 0.3]
            self._begin_and_leave(http, "segment", given, chance.uniform(0, 0.3))
        return False

    def _begin_and_leave(self, http: httpx.Client, endpoint: str, given: list, seconds: float) -> None:
        reply = http.post(f"gradio_api/call/{endpoint}", json={"data": given})
        if reply.status_code == 503:
            raise QueueError(reply.json()["detail"])
        event, end = reply.json()["event_id"], time.monotonic() + seconds
        try:
            with http.stream("GET", f"gradio_api/call/{endpoint}/{event}", timeout=seconds + 0.1) as answer:
                for _ in answer.iter_lines():
                    if time.monotonic() > end:
                        return
        except httpx.ReadTimeout:  # nothing came in that time: gone all the same
            pass

    def cut_upload(self, client: Client, chance: random.Random) -> bool:
        """Close the connection in the middle of an upload."""
        content = self.files["big"].read_bytes()

        def part():
            yield b'--cut\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\n'
            yield content[: chance.randrange(1, len(content) // 2)]
            raise _Left

        headers = {"content-type": "multipart/form-data; boundary=cut", "content-length": str(len(content) + 200)}
        with suppress(_Left):
            httpx.post(f"{self.url}gradio_api/upload", content=part(), headers=headers, timeout=60)
        return False

    def look(self, client: Client, chance: random.Random) -> bool:
        for path in ("", "config", "gradio_api/info"):
            httpx.get(self.url + path, timeout=60).raise_for_status()
        return True

    def flood(self, client: Client, chance: random.Random) -> bool:
        """More at once than the queue takes; those who were let in leave, and make room."""
        with httpx.Client(base_url=self.url, timeout=120) as http:
            asked = {"data": [_uploaded(http, self.files["chest"]), "int8", ["lung"], 0.3]}
            events, full = [], 0
            for _ in range(_FLOOD):
                reply = http.post("gradio_api/call/segment", json=asked)
                if reply.status_code == 503:
                    full += 1
                    self.full_said.add(reply.json()["detail"])
                else:
                    events.append(reply.json()["event_id"])
            with self._lock:
                self.tallies["flood"].full += full
            for event in events:
                with http.stream("GET", f"gradio_api/call/segment/{event}", timeout=600) as answer:
                    next(answer.iter_lines(), None)
        return False


class _Left(Exception):
    """The client has had enough."""


_VISITS: dict[str, Callable[[Visitors, Client, random.Random], bool]] = {
    "segment": Visitors.segment,
    "correct": Visitors.correct,
    "compare": Visitors.compare,
    "bad file": Visitors.bad_file,
    "big file": Visitors.big_file,
    "stack": Visitors.stack,
    "cancel a stack": Visitors.cancel,
    "leave a stack": Visitors.leave_stack,
    "leave an image": Visitors.leave_image,
    "cut an upload": Visitors.cut_upload,
    "look": Visitors.look,
    "flood": Visitors.flood,
}
#: How often each is drawn; `flood` has a client of its own.
_WEIGHTS = {"segment": 10, "correct": 6, "compare": 1, "bad file": 5, "big file": 1, "stack": 2, "cancel a stack": 1,
            "leave a stack": 1, "leave an image": 3, "cut an upload": 2, "look": 3}  # fmt: skip


def _uploaded(http: httpx.Client, path: Path) -> dict:
    """Upload a file; what gradio's endpoints call it."""
    [place] = http.post("gradio_api/upload", files={"files": (path.name, path.read_bytes())}).json()
    return {"path": place, "meta": {"_type": "gradio.FileData"}}


class Server:
    """`python app.py` with its folders of temporary files and its log below `work`."""

    def __init__(self, work: Path, weights: str):
        self.log, self.temporary, self.cache = work / "page.log", work / "tmp", work / "cache"
        for folder in (self.temporary, self.cache):
            folder.mkdir(parents=True, exist_ok=True)
        port = _free_port()
        settings = {"GRADIO_SERVER_PORT": str(port), "GRADIO_TEMP_DIR": str(self.cache), "TMPDIR": str(self.temporary)}
        with self.log.open("w") as out:
            self._page = subprocess.Popen(
                [sys.executable, "app.py", "--weights", weights], cwd=_ROOT, env=os.environ | settings, stdout=out,
                stderr=out,
            )  # fmt: skip
        self.url = f"http://127.0.0.1:{port}/"
        self.process = psutil.Process(self._page.pid)

    def wait(self) -> None:
        end = time.monotonic() + _START_SECONDS
        while time.monotonic() < end:
            if self._page.poll() is not None:
                break
            try:
                httpx.get(self.url, timeout=5)
                return
            except httpx.HTTPError:
                time.sleep(0.5)
        raise InputError("app.py", "does not start", f"a page; its log is {self.log}")

    @property
    def memory_mb(self) -> float:
        return self.process.memory_info().rss / 1e6

    def busy(self) -> bool:
        """Whether it computes, by a second of its processor time."""
        before = sum(self.process.cpu_times()[:2])
        time.sleep(1)
        return sum(self.process.cpu_times()[:2]) - before > 0.1

    def stop(self) -> None:
        self._page.terminate()
        self._page.wait(timeout=60)


def _free_port() -> int:
    import socket

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--minutes", type=float, default=60, help="after the warm-up (default: %(default)s)")
    parser.add_argument("--warm-minutes", type=float, default=3, help="before memory counts (default: %(default)s)")
    parser.add_argument("--clients", type=int, default=8, help="at the same time (default: %(default)s)")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="where soak.json and soak.md go")
    parser.add_argument("--weights", default="embedded", help="as for app.py")
    parser.add_argument("--seed", type=int, default=0, help="of what the clients do")


def run(arguments: argparse.Namespace) -> int:
    arguments.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="soak-") as work:
        files = write_soak_files(Path(work))
        server = Server(Path(work), arguments.weights)
        try:
            server.wait()
            found = soak(server, files, arguments.minutes, arguments.warm_minutes, arguments.clients, arguments.seed)
        finally:
            server.stop()
            (arguments.out / "page.log").write_bytes(server.log.read_bytes())
    found["machine"] = machine_name()
    for name, text in (("soak.json", json.dumps(found, indent=1) + "\n"), ("soak.md", markdown(found))):
        with replace_file(arguments.out / name) as file:
            file.write(text)
    print(markdown(found), end="")
    return 0 if found["passed"] else 1


def soak(server: Server, files: dict[str, Path], minutes: float, warm_minutes: float, clients: int, seed: int) -> dict:
    """Warm up with every kind of visit and all clients, so that caches are full; drive, come to rest, and count."""
    warm, visitors = Visitors(server.url, files), Visitors(server.url, files)
    with closing(Client(server.url, verbose=False, download_files=False)) as client:
        for kind in _VISITS:
            warm.visit(kind, client, random.Random(seed))
    _drive(warm, server, warm_minutes * 60, clients, seed + 1)
    _rest(server)
    at_rest, at_start = set(_names(server.temporary)), server.memory_mb
    samples = [(0.0, at_start), *_drive(visitors, server, minutes * 60, clients, seed)]
    rested = _rest(server)
    samples.append((samples[-1][0], server.memory_mb))
    log = server.log.read_text(errors="replace")
    grown = samples[-1][1] - samples[0][1]
    kinds = {kind: visitors.tallies[kind].to_json() for kind in _VISITS}
    strange = sum(sum(tally["neither_answer_nor_sentence"].values()) for tally in kinds.values())
    errors = log.count("Traceback")
    left = sorted(set(_names(server.temporary)) - at_rest)
    cache = sum(path.stat().st_size for path in server.cache.rglob("*") if path.is_file())
    return {
        "minutes": round((samples[-1][0]) / 60, 1),
        "clients": clients,
        "load_average": os.getloadavg(),
        "kinds": kinds,
        "unhandled_errors_in_log": errors,
        "memory_mb": {"start": round(samples[0][1]), "end": round(samples[-1][1]), "grown": round(grown),
                      "most": round(max(mb for _, mb in samples)), "samples": samples},
        "rests_afterwards": rested,
        "left_temporary_files": left,
        "upload_cache_mb": round(cache / 1e6),
        "full_queue_says": sorted(visitors.full_said | warm.full_said),
        "passed": not errors and grown < _MOST_GROWN_MB and not strange and not left and rested,
    }  # fmt: skip


def _drive(visitors: Visitors, server: Server, seconds: float, clients: int, seed: int) -> list[tuple[float, float]]:
    """All clients at once for so long; (seconds, the server's memory in MB) every few seconds."""
    start, samples = time.monotonic(), []

    def visit(number: int) -> None:
        chance = random.Random(f"{seed} {number}")
        with closing(Client(server.url, verbose=False, download_files=False)) as client:
            while time.monotonic() - start < seconds:
                if number == 0:
                    visitors.visit("flood", client, chance)
                    time.sleep(min(_FLOOD_SECONDS, max(0, start + seconds - time.monotonic())))
                else:
                    visitors.visit(chance.choices(*zip(*_WEIGHTS.items(), strict=True))[0], client, chance)

    threads = [threading.Thread(target=visit, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        time.sleep(_SAMPLE_SECONDS)
        samples.append((round(time.monotonic() - start, 1), server.memory_mb))
    return samples


def _rest(server: Server) -> bool:
    """Until the server computes nothing; whether it came to that."""
    end = time.monotonic() + _REST_SECONDS
    while time.monotonic() < end:
        if not server.busy():
            return True
    return False


def _names(folder: Path) -> list[str]:
    return [path.relative_to(folder).as_posix() for path in folder.rglob("*")]


def markdown(found: dict) -> str:
    """A table by kind, then what else was counted."""
    rows = []
    for kind, of in found["kinds"].items():
        times = [f"{value:.2f}" if value is not None else "" for value in of["seconds"].values()]
        counts = [of["answered"], sum(of["refused"].values()), of["queue_full"], of["left_by_the_client"],
                  sum(of["neither_answer_nor_sentence"].values())]  # fmt: skip
        rows.append((kind, *counts, *times))
    memory = found["memory_mb"]
    head = ("visit", "answered", "refused in a sentence", "queue full", "left", "strange", "p50 s", "p95 s", "max s")
    lines = [
        f"{found['clients']} clients for {found['minutes']:g} minutes on {found['machine']}; load at the end "
        f"{found['load_average'][0]:.1f}.",
        "",
        markdown_table(head, rows),
        "",
        f"- unhandled errors in the log: {found['unhandled_errors_in_log']}",
        f"- memory: {memory['start']} MB after the warm-up, {memory['end']} MB at rest afterwards "
        f"(grown by {memory['grown']}, at most {memory['most']})",
        f"- at rest afterwards: {'yes' if found['rests_afterwards'] else 'no'}",
        f"- temporary files left: {', '.join(found['left_temporary_files']) or 'none'}; "
        f"uploads kept for their hour: {found['upload_cache_mb']} MB",
        f"- a full queue says: {'; '.join(map(repr, found['full_queue_says'])) or 'was never full'}",
    ]
    strange = {said for of in found["kinds"].values() for said in of["neither_answer_nor_sentence"]}
    lines += [f"- strange: {said}" for said in sorted(strange)]
    return "\n".join(lines) + "\n"
