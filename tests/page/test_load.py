"""Many visitors at once, and many requests after each other."""

from __future__ import annotations

import random
import time

import httpx
import pytest
from gradio_client import handle_file

from eval.soak import Visitors
from eval.soak_files import write_soak_files
from tests.page.conftest import until_it_listens

CHEST = "Phantom: chest X-ray"
#: What python and onnxruntime take once, at the first answers, is no growth.
_WARM, _REQUESTS, _MOST_BYTES = 20, 200, 50e6


@pytest.mark.browser
def test_twenty_uploads_at_once_are_all_answered(browser, url, files):
    contexts = [browser.new_context() for _ in range(4)]
    for context in contexts:
        context.set_default_timeout(120_000)  # twenty pages on two cores take a while to load
    pages = [context.new_page() for context in contexts for _ in range(5)]
    for page in pages:
        page.goto(url)
        page.wait_for_selector("#examples img")
        until_it_listens(page)
    for page in pages:
        page.set_input_files("#upload input[type=file]", str(files[CHEST]))
    for page in pages:
        page.get_by_text("2 regions found.").first.wait_for()
    for context in contexts:
        context.close()


def test_memory_does_not_grow_with_the_requests(server, client, files, record_property):
    names = [CHEST, "Phantom: brain MRI", "NIfTI", "DICOM", "JPEG"]
    images = [handle_file(str(files[name])) for name in names]
    edits = [{"action": "add", "box": [10, 10, 60, 60]}, {"action": "click", "region": 1, "point": [30, 30]}]

    def ask(count: int) -> None:
        for number in range(count):
            image = images[number % len(images)]
            if number % 4 == 3:
                client.predict(image=image, edits=edits, api_name="/correct")
            else:
                client.predict(image=image, api_name="/segment")

    ask(_WARM)
    before = server.process.memory_info().rss
    ask(_REQUESTS)
    grown = server.process.memory_info().rss - before
    record_property("grown_megabytes", round(grown / 1e6, 1))
    print(f"grown by {grown / 1e6:.1f} MB")
    assert grown < _MOST_BYTES


class _Left(Exception):
    """The client has had enough."""


def test_an_upload_that_is_cut_is_no_error_of_the_page(server):
    def part():
        yield b'--cut\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\n' + bytes(300_000)
        raise _Left

    headers = {"content-type": "multipart/form-data; boundary=cut", "content-length": "900000"}
    before = server.log.read_text().count("Traceback")
    with pytest.raises(_Left):
        httpx.post(f"{server.url}gradio_api/upload", content=part(), headers=headers, timeout=60)
    for _ in range(3):  # answered after the server has seen that the other one is gone
        httpx.get(f"{server.url}config", timeout=60).raise_for_status()
        time.sleep(0.5)
    assert server.log.read_text().count("Traceback") == before


@pytest.mark.browser
def test_a_full_queue_is_said_on_the_page(desk, files):
    """The answer that a full queue gives, see `eval/soak.py`, which fills it."""
    answer = {"detail": "Queue is full. Max size is 40 and size is 40."}
    desk.page.route("**/queue/join*", lambda route: route.fulfill(status=503, json=answer))
    desk.upload(files[CHEST])
    desk.wait_for("This application is currently busy. Please try again.")


@pytest.fixture(scope="module")
def soak_files(tmp_path_factory):
    return write_soak_files(tmp_path_factory.mktemp("soak"))


@pytest.mark.parametrize(
    ("kind", "outcome"),
    [
        ("segment", "seconds"),
        ("bad file", "refusals"),
        ("big file", "seconds"),
        ("leave an image", "left"),
        ("cut an upload", "left"),
        ("cancel a stack", "left"),
        ("look", "seconds"),
    ],
)
def test_visits_of_the_soak_end_as_they_should(server, client, soak_files, kind, outcome):
    visitors = Visitors(server.url, soak_files)
    visitors.visit(kind, client, random.Random(0))
    assert not visitors.tallies[kind].strange
    assert getattr(visitors.tallies[kind], outcome)
