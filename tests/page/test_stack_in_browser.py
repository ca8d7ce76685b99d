"""The tab of volumes and videos in Chromium. Screenshots go to pytest's temporary folder."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from gradio_client import handle_file
from PIL import Image, ImageSequence

from tests.page.conftest import Visit

pytestmark = pytest.mark.browser

TAB = "Volume and video"


def open_stack(visit: Visit, *paths: Path) -> None:
    page = visit.page
    visit.open_tab(TAB)
    page.wait_for_selector("#stack-upload")
    page.set_input_files("#stack-upload input[type=file]", [str(path) for path in paths])


def wait_until_done(visit: Visit) -> None:
    visit.page.wait_for_selector("#stack-status p", timeout=180_000)
    visit.page.wait_for_function("document.querySelector('#viewer img').complete")


def drawn(visit: Visit) -> int:
    """Pixels of the canvas over the slice that are not empty."""
    return visit.page.evaluate(
        """() => {
            const canvas = document.querySelector('#viewer canvas');
            const data = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
            return data.reduce((sum, value, at) => sum + (at % 4 === 3 && value > 0), 0);
        }"""
    )


def test_a_video_is_scrolled_through_and_its_files_are_the_api_s(visit, client, files, tmp_path):
    page = visit.page
    open_stack(visit, files["heart video"])
    wait_until_done(visit)
    told, taken = client.predict(files=[handle_file(str(files["heart video"]))], api_name="/segment_stack")
    first = told["objects"][0]
    rows = page.eval_on_selector_all(
        "#viewer tbody tr", "rows => rows.map(row => [...row.cells].map(c => c.innerText))"
    )
    assert len(rows) == len(told["objects"])
    largest, smallest = max(first["area_px"]), min(first["area_px"])
    start, end = first["span"]
    label, areas = first["label"].replace("_", " "), [str(largest), str(smallest), f"{1 - smallest / largest:.0%}"]
    assert rows[0][1:] == [label, f"{first['score']:.2f}", f"{start} to {end}", *areas]
    slider = page.locator("#viewer .where input")
    for frame in (0, 3):
        slider.fill(str(frame))
        page.wait_for_function("frame => document.querySelector('#viewer .where').innerText.startsWith(frame)",
                               arg=f"Frame {frame} / 3")  # fmt: skip
        for number in range(2, len(rows) + 1):
            page.get_by_label(f"Show region {number}").uncheck()
        assert drawn(visit) == pytest.approx(first["area_px"][frame - start], abs=2)
    page.locator("#viewer .stage").focus()
    page.keyboard.press("Home")
    assert page.inner_text("#viewer .where").startswith("Frame 0 / 3, 0.00 s")
    page.screenshot(path=tmp_path / "video.png", full_page=True)

    visit.open_tab("Files", "#stack-results")
    kept = {}
    for link in page.locator("#stack-files a[download]").all():
        with page.expect_download() as download:
            link.click()
        kept[download.value.suggested_filename] = tmp_path / download.value.suggested_filename
        download.value.save_as(kept[download.value.suggested_filename])
    assert (
        sorted(kept)
        == ["heart.json", "heart_overlay.mp4", "heart_seg.npz"]
        == sorted(Path(path).name for path in taken)
    )
    record = json.loads(kept["heart.json"].read_text("utf-8"))
    assert record | {"timings_ms": None} == told | {"timings_ms": None}
    theirs = next(path for path in taken if path.endswith("_seg.npz"))
    assert np.array_equal(np.load(kept["heart_seg.npz"])["objects"], np.load(theirs)["objects"])
    visit.check()


def test_a_volume_has_volumes_a_montage_and_a_surface(desk, files, tmp_path):
    page = desk.page
    open_stack(desk, files["heart volume"])
    wait_until_done(desk)
    head = page.locator("#viewer th").all_inner_texts()
    assert head == ["", "label", "score", "slices", "volume ml", "longest diameter mm"]
    assert [page.inner_text(f"#viewer .side.{side}") for side in ("left", "right", "top", "bottom")] == list("RLAP")
    assert "mirrored" in page.get_attribute("#viewer .stage", "class")
    assert page.locator("#montage img").count() == 1
    desk.open_tab("3-D surface", "#stack-results")
    link = page.locator("#model a[download]")
    with page.expect_download() as download:
        link.click()
    assert Path(download.value.path()).read_bytes()[:4] == b"glTF"
    page.screenshot(path=tmp_path / "volume.png", full_page=True)
    # a Chromium without a graphics card: Babylon says so and draws with WebGL
    desk.complaints = [complaint for complaint in desk.complaints if "WebGPU" not in complaint]
    desk.check()


def test_frames_as_files_and_what_is_no_stack(desk, files, tmp_path):
    frames = []
    with Image.open(files["heart video"]) as video:
        for number in range(2):
            video.seek(number)
            frames.append(tmp_path / f"{number}.png")
            video.convert("L").save(frames[-1])
    open_stack(desk, *frames)
    wait_until_done(desk)
    assert "in 2 frames" in desk.page.inner_text("#stack-status")
    desk.page.locator("#stack-upload").get_by_label("Clear").click()
    desk.page.wait_for_selector("#stack-status .start")
    open_stack(desk, files["text"])
    desk.page.wait_for_selector("#stack-status .refused", timeout=60_000)
    assert "holds text, whatever its name says" in desk.page.inner_text("#stack-status")
    desk.check()


def test_cancel_stops_it_and_the_next_one_runs(desk, files, tmp_path):
    page, long = desk.page, tmp_path / "long.gif"
    with Image.open(files["heart video"]) as video:
        first, *others = [frame.copy() for frame in ImageSequence.Iterator(video)] * 60
    first.save(long, save_all=True, append_images=others)  # some ten seconds, so that cancelling comes in time
    open_stack(desk, long)
    page.locator("#stack-status").get_by_text("left").wait_for(timeout=120_000)
    page.locator("#cancel").click()
    page.get_by_text("Cancelled.").wait_for(timeout=30_000)
    assert not page.locator("#cancel").is_visible()
    page.locator("#stack-examples button").nth(0).click()
    wait_until_done(desk)
    assert "in 12 slices" in page.inner_text("#stack-status")
    desk.check()
