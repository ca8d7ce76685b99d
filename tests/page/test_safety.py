"""What a visitor can't get at, and what is not given back."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import urllib.error
import urllib.request

import pytest
from gradio_client import handle_file
from PIL import Image

from page.answers import Answers
from page.take_away import write_take_away
from pipeline.errors import InputError
from tests.page.conftest import PATIENT, ROOT

#: Build the page and print what it says of itself.
ABOUT = """
import json, sys
import app
page = app.build_page(sys.argv[1])
functions = {each.fn.__qualname__: [each.concurrency_id, each.concurrency_limit] for each in page.fns.values()}
queue = page._queue.max_size
print(json.dumps({"functions": functions, "queue": queue, "delete": page.delete_cache, "limit": app._ANSWER_SECONDS}))
"""


@pytest.fixture(scope="module")
def about(release) -> dict:
    words = [sys.executable, "-c", ABOUT, str(release.folder)]
    return json.loads(subprocess.run(words, cwd=ROOT, check=True, capture_output=True, text=True, timeout=120).stdout)


def test_one_inference_at_a_time_and_a_queue_with_a_bound(about):
    light = {
        "Events.choose",
        "Events.begin",
        "StackEvents.choose",
        "StackEvents.begin",
        "StackEvents.stop",
        "StackEvents.replace",
        "StackEvents.surface",
    }
    heavy = {name: limits for name, limits in about["functions"].items() if name not in light}
    images = {f"Events.{name}" for name in ("show", "edit", "record", "take_away", "side_by_side")}
    images |= {f"Api.{name}" for name in ("segment", "correct", "compare")}
    assert set(heavy) == images | {"StackEvents.show", "Api.segment_stack"}
    assert all(limits == ["networks" if name in images else "stacks", 1] for name, limits in heavy.items())
    assert (about["queue"], about["limit"]) == (40, 60)


def test_uploads_are_limited_and_deleted_and_nothing_is_reported(about, url):
    with urllib.request.urlopen(f"{url}config", timeout=30) as reply:
        config = json.load(reply)
    assert config["max_file_size"] == 400 * 1024**2
    assert config["analytics_enabled"] is False
    assert about["delete"] == [3600, 3600]


@pytest.mark.parametrize("path", ["/etc/passwd", str(ROOT / "app.py"), str(ROOT / "hub" / "weights" / "config.json")])
def test_no_file_of_the_server_is_served(url, path):
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(f"{url}gradio_api/file={path}", timeout=30)
    with refused.value as reply:
        assert reply.code == 403


@pytest.mark.parametrize("endpoint", ["segment", "correct"])
def test_no_file_of_the_server_is_read(url, files, endpoint):
    path = {"path": str(files["NIfTI"]), "meta": {"_type": "gradio.FileData"}}
    data = [path, *([[]] if endpoint == "correct" else []), "int8", ["lung"], 0.3]
    body = json.dumps({"data": data}).encode()
    call = urllib.request.Request(f"{url}gradio_api/call/{endpoint}", body, {"content-type": "application/json"})
    with urllib.request.urlopen(call, timeout=30) as reply:
        event = json.load(reply)["event_id"]
    with urllib.request.urlopen(f"{url}gradio_api/call/{endpoint}/{event}", timeout=30) as reply:
        said = reply.read().decode()
    assert said.startswith("event: error")
    assert "detections" not in said


def test_an_answer_that_takes_too_long_is_ended(release, files):
    answers = Answers(str(release.folder), seconds=1e-6)
    question = answers.question(str(files["Phantom: chest X-ray"]), "int8", None, None)
    with pytest.raises(InputError, match="image: took longer than 1e-06 s"):
        answers.ask(question)


@pytest.mark.parametrize("name", ["DICOM", "JPEG"])
def test_nothing_of_a_header_or_exif_is_given_back(client, files, release, tmp_path, name):
    told = json.dumps(client.predict(image=handle_file(str(files[name])), min_score=0.06, api_name="/segment"))
    answers = Answers(str(release.folder), seconds=60)
    scan, found = answers.ask(answers.question(str(files[name]), "int8", None, 0.06))
    written, refused = write_take_away(tmp_path, scan, found, answers.class_names)
    assert refused is None
    texts = [told.encode()] + [path.read_bytes() for path in written if not path.name.endswith("_seg.dcm")]
    for secret in (PATIENT, "Roe", "4711", "Elsewhere"):
        assert not any(secret.encode() in text for text in texts)
    with Image.open(tmp_path / f"{files[name].stem}_overlay.png") as overlay:
        assert not overlay.getexif() and not overlay.text


def test_the_picture_on_the_page_has_no_exif(files):
    import base64

    from page.canvas import _data_url
    from pipeline import read_scan

    picture = base64.b64decode(_data_url(read_scan(files["JPEG"]).pixels).partition(",")[2])
    with Image.open(files["JPEG"]) as photo:
        assert photo.getexif()
    assert not Image.open(io.BytesIO(picture)).getexif()
    assert b"Roe" not in picture
