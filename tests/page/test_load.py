"""Many visitors at once, and many requests after each other."""

from __future__ import annotations

import pytest
from gradio_client import handle_file

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
        page.wait_for_load_state("networkidle")
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
