"""A page that runs for all tests of this folder, what they upload, a client and a browser."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import nibabel
import numpy as np
import psutil
import pytest
from gradio_client import Client, handle_file
from PIL import Image, ImageSequence
from pydicom import dcmread
from pydicom.data import get_testdata_file

from pipeline.phantoms import write_phantoms, write_stack_phantoms

ROOT = Path(__file__).parents[2]
NOTICE = "Research software, not a medical device."
PATIENT = "Roe^Jacqueline"
CHROMIUM = shutil.which("chromium")
DESKTOP, PHONE = (1280, 900), (390, 844)


@pytest.fixture(scope="session")
def files(tmp_path_factory) -> dict[str, Path]:
    """What the tests upload."""
    folder = tmp_path_factory.mktemp("uploads")
    found = {caption: path for path, caption in write_phantoms(folder)}
    brain = np.asarray(Image.open(found["Phantom: brain MRI"]).convert("L"), np.float32)
    found["NIfTI"] = folder / "brain.nii.gz"
    nibabel.save(nibabel.Nifti1Image(brain[:, ::-1].T, np.diag([0.5, 0.8, 1, 1])), found["NIfTI"])
    dicom = dcmread(get_testdata_file("CT_small.dcm", download=False))
    dicom.PatientName, dicom.PatientID, dicom.InstitutionName = PATIENT, "ID-4711", "St. Elsewhere"
    found["DICOM"] = folder / "slice.dcm"
    dicom.save_as(found["DICOM"])
    found["JPEG"] = folder / "photo.jpg"
    exif = Image.Exif()
    exif[0x010E], exif[0x9286] = "of Mrs Roe", PATIENT
    Image.open(found["Phantom: colonoscopy"]).save(found["JPEG"], exif=exif, quality=95)
    noise = np.random.default_rng(0).integers(0, 256, (300, 400, 3), np.uint8)
    found["noise"] = folder / "noise.png"
    Image.fromarray(noise).save(found["noise"])
    found["heart volume"], found["heart video"] = short_stacks(folder)
    found["text"] = folder / "notes <b>bold.png"
    found["text"].write_text("not an image\n" * 9)
    return found


def short_stacks(folder: Path) -> tuple[Path, Path]:
    """Four slices and four frames of the drawn heart."""
    drawn = folder / "drawn"
    drawn.mkdir()
    (volume, _), (video, _) = write_stack_phantoms(drawn)
    short = folder / "heart.nii.gz", folder / "heart.gif"
    nibabel.save(nibabel.load(volume).slicer[..., :4], short[0])
    with Image.open(video) as frames:
        first, *others = [frame.copy() for frame in ImageSequence.Iterator(frames)][:4]
    first.save(short[1], save_all=True, append_images=others, duration=40, loop=0)
    return short


@pytest.fixture(scope="session")
def examples_folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("examples")
    Image.new("L", (90, 60), 40).save(folder / "ours.png")
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    return folder


@dataclass(frozen=True)
class Server:
    url: str
    process: psutil.Process
    log: Path


@pytest.fixture(scope="session")
def server(release, examples_folder, tmp_path_factory) -> Iterator[Server]:
    """`python app.py` on a port that GRADIO_SERVER_PORT names."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = {"GRADIO_SERVER_PORT": str(port), "GRADIO_TEMP_DIR": str(tmp_path_factory.mktemp("cache"))}
    log = tmp_path_factory.mktemp("log") / "page.log"
    with log.open("w") as out:
        page = subprocess.Popen(
            [sys.executable, "app.py", "--weights", str(release.folder), "--examples", str(examples_folder)],
            cwd=ROOT, env=os.environ | settings, stdout=out, stderr=out,
        )  # fmt: skip
    try:
        yield Server(wait_until_up(f"http://127.0.0.1:{port}/", page, log), psutil.Process(page.pid), log)
    finally:
        page.terminate()
        page.wait(timeout=30)


def wait_until_up(url: str, page: subprocess.Popen, log: Path) -> str:
    for _ in range(720):  # a busy machine may take a minute
        assert page.poll() is None, log.read_text()
        try:
            with urllib.request.urlopen(url, timeout=5):
                return url
        except (urllib.error.URLError, TimeoutError):
            time.sleep(0.25)
    raise TimeoutError(log.read_text())


@pytest.fixture(scope="session")
def url(server) -> str:
    return server.url


@pytest.fixture(scope="session")
def client(url, tmp_path_factory) -> Iterator[Client]:
    client = Client(url, verbose=False, download_files=str(tmp_path_factory.mktemp("client")))
    yield client
    client.close()


@pytest.fixture
def ask(client, files):
    """Ask an endpoint about one of the uploads."""

    def ask(api_name: str, name: str, **asked):
        return client.predict(image=handle_file(str(files[name])), **asked, api_name=api_name)

    return ask


def until_it_listens(page) -> None:
    """Before, what is put into a page is lost. It does once nothing is fetched any more, and after ten seconds even if
    some connection stays open, which happens now and then."""
    from playwright.sync_api import TimeoutError as TooLate

    with contextlib.suppress(TooLate):
        page.wait_for_load_state("networkidle", timeout=10_000)


class Visit:
    """One page in one window, and what went wrong in it."""

    def __init__(self, browser, url: str, size: tuple[int, int], **settings):
        phone = {"has_touch": True, "is_mobile": True} if size == PHONE else {}
        viewport = {"width": size[0], "height": size[1]}
        self.context = browser.new_context(viewport=viewport, **phone, **{"locale": "en-US", **settings})
        self.page = self.context.new_page()
        self.outside, self.complaints = [], []
        self.page.on("request", self._note_request)
        self.page.on("console", lambda said: said.type == "error" and self.complaints.append(said.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self._home = url
        self.page.goto(url)
        self.page.wait_for_selector("#examples img")
        until_it_listens(self.page)

    def _note_request(self, request) -> None:
        if not request.url.startswith((self._home, "data:", "blob:")):
            self.outside.append(request.url)

    def upload(self, path: Path) -> None:
        self.page.set_input_files("#upload input[type=file]", str(path))

    def wait_for(self, text: str) -> None:
        self.page.get_by_text(text).first.wait_for(timeout=60_000)

    def use(self, tool: str) -> None:
        self.page.get_by_role("radio", name=tool).click()

    def settle(self) -> None:
        """Until what was corrected has come back."""
        self.page.wait_for_timeout(100)
        self.page.wait_for_function("!document.querySelector('#canvas .stage').classList.contains('busy')")

    def rows(self) -> list[list[str]]:
        """Number, label, score, box, predicted IoU and area of each region, as the table shows them."""
        cell = "cell.querySelector('select')?.value ?? cell.innerText"
        read = f"rows => rows.map(row => [...row.cells].map(cell => {cell}))"
        return [row[:6] for row in self.page.eval_on_selector_all("#canvas tbody tr", read)]

    def place(self, x: float, y: float, width: int, height: int) -> tuple[float, float]:
        """A pixel of the image -> where it is in the window."""
        stage = self.page.locator("#canvas .stage")
        stage.scroll_into_view_if_needed()
        frame = stage.bounding_box()
        return frame["x"] + x / width * frame["width"], frame["y"] + y / height * frame["height"]

    def drag(self, start: tuple[float, float], end: tuple[float, float], size: tuple[int, int]) -> None:
        mouse = self.page.mouse
        mouse.move(*self.place(*start, *size))
        mouse.down()
        mouse.move(*self.place(*end, *size), steps=4)
        mouse.up()
        self.settle()

    def drawn_pixels(self) -> int:
        """Of the canvas over the image, those that are not empty."""
        return self.page.evaluate(
            """() => {
                const canvas = document.querySelector('#canvas canvas');
                const data = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
                return data.reduce((sum, value, at) => sum + (at % 4 === 3 && value > 0), 0);
            }"""
        )

    def record(self) -> dict:
        """What the page shows as JSON."""
        with self.page.expect_download() as download:
            self.make_files()
            self.page.locator("#files a[download$='.json']:not([download*='coco'])").click()
        return json.loads(Path(download.value.path()).read_text("utf-8"))

    def make_files(self) -> None:
        self.open_tab("Files", "#results")
        self.page.get_by_role("button", name="Make the files").click()
        self.page.wait_for_selector("#files a[download]", timeout=60_000)

    def open_tab(self, name: str, within: str = "body") -> None:
        """On a phone the last tabs are in a menu; while the page is laid out they move into it and out again."""
        from playwright.sync_api import TimeoutError as TooLate

        page = self.page.locator(within)
        tab = page.get_by_role("tab", name=name)
        menu = page.locator(".tabs button.overflow-menu:visible, .overflow-menu > button:visible").first
        chosen = page.locator(".overflow-dropdown button", has_text=name)
        end = time.monotonic() + 120  # a busy machine lays out slowly
        while time.monotonic() < end:
            try:
                if not tab.is_visible() and not chosen.is_visible():
                    menu.click(timeout=2000)
                (tab if tab.is_visible() else chosen).click(timeout=2000)
                return
            except TooLate:
                continue
        raise AssertionError(f"no tab {name!r} to open; there is: {page.inner_text()!r}")

    def check(self) -> None:
        """Nothing went wrong, nothing was asked of others, and the notice is in sight."""
        assert self.outside == []
        assert self.complaints == []
        assert "Traceback" not in self.page.inner_text("body")
        notice = self.page.locator("#notice")
        box, height = notice.bounding_box(), self.page.viewport_size["height"]
        assert notice.is_visible() and 0 <= box["y"] < box["y"] + box["height"] <= height + 1
        assert self.page.evaluate("document.documentElement.scrollWidth") <= self.page.viewport_size["width"]


@pytest.fixture(scope="session")
def browser():
    if CHROMIUM is None:
        pytest.skip("no chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(params=[DESKTOP, PHONE], ids=["desktop", "phone"])
def visit(browser, url, request) -> Iterator[Visit]:
    visit = Visit(browser, url, request.param)
    yield visit
    visit.context.close()


@pytest.fixture
def desk(browser, url) -> Iterator[Visit]:
    visit = Visit(browser, url, DESKTOP)
    yield visit
    visit.context.close()
