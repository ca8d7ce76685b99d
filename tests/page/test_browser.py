"""The page as its users meet it: a process, its API, and a browser."""

from __future__ import annotations

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
from pathlib import Path

import nibabel
import numpy as np
import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from PIL import Image
from pycocotools.coco import COCO

from pipeline.phantoms import write_phantoms
from pipeline.results import OUT_OF_SCOPE

ROOT = Path(__file__).parents[1]
NOTICE = "Research software, not a medical device."
NOT_AN_IMAGE = "holds text, whatever its name says; expected a PNG, JPEG, TIFF, single DICOM or 2-D NIfTI file"
CHROMIUM = shutil.which("chromium")
DESKTOP, PHONE = (1280, 900), (390, 844)


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[str, Path]:
    """What the tests upload."""
    folder = tmp_path_factory.mktemp("uploads")
    found = {caption: path for path, caption in write_phantoms(folder)}
    brain = np.asarray(Image.open(found["Phantom: brain MRI"]).convert("L"), np.float32)
    found["NIfTI"] = folder / "brain.nii.gz"
    nibabel.save(nibabel.Nifti1Image(brain[:, ::-1].T, np.diag([0.5, 0.8, 1, 1])), found["NIfTI"])
    noise = np.random.default_rng(0).integers(0, 256, (300, 400, 3), np.uint8)
    found["noise"] = folder / "noise.png"
    Image.fromarray(noise).save(found["noise"])
    found["text"] = folder / "notes <b>bold.png"
    found["text"].write_text("not an image\n" * 9)
    return found


@pytest.fixture(scope="module")
def examples_folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("examples")
    Image.new("L", (90, 60), 40).save(folder / "ours.png")
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    return folder


@pytest.fixture(scope="module")
def url(release, examples_folder, tmp_path_factory) -> Iterator[str]:
    """Of `python app.py` on a port that GRADIO_SERVER_PORT names."""
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
        yield wait_until_up(f"http://127.0.0.1:{port}/", page, log)
    finally:
        page.terminate()
        page.wait(timeout=30)


def wait_until_up(url: str, page: subprocess.Popen, log: Path) -> str:
    for _ in range(120):
        assert page.poll() is None, log.read_text()
        try:
            with urllib.request.urlopen(url, timeout=5):
                return url
        except (urllib.error.URLError, TimeoutError):
            time.sleep(0.5)
    raise TimeoutError(log.read_text())


@pytest.fixture(scope="module")
def client(url, tmp_path_factory) -> Iterator[Client]:
    client = Client(url, verbose=False, download_files=str(tmp_path_factory.mktemp("client")))
    yield client
    client.close()


def command_line(path: Path, out: Path, release, *options: str) -> dict:
    subprocess.run(
        [sys.executable, "-m", "pipeline", "segment", path, "--out", out, "--weights", release.folder, *options],
        cwd=ROOT, check=True, capture_output=True, timeout=120,
    )  # fmt: skip
    [record] = out.glob("*.json")
    return json.loads(record.read_text("utf-8"))


# --- the API -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "asked", "options"),
    [
        pytest.param("Phantom: chest X-ray", {}, [], id="as it comes"),
        pytest.param("Phantom: chest X-ray", {"min_score": 0.06}, ["--min-score", "0.06"], id="least score"),
        pytest.param("Phantom: chest X-ray", {"classes": ["polyp", "lung"], "min_score": 0.06},
                     ["--classes", "lung,polyp", "--min-score", "0.06"], id="some classes"),
        pytest.param("Phantom: fetal ultrasound", {"precision": "fp32"}, ["--precision", "fp32"], id="fp32"),
        pytest.param("NIfTI", {"min_score": 0.06}, ["--min-score", "0.06"], id="NIfTI with spacing"),
    ],
)  # fmt: skip
def test_the_page_and_the_command_line_say_the_same(client, files, release, tmp_path, name, asked, options):
    expected = command_line(files[name], tmp_path, release, *options)
    found = client.predict(image=handle_file(str(files[name])), **asked, api_name="/segment")
    assert list(found) == list(expected)
    assert found.pop("file") == Path(expected.pop("file")).name
    assert found.pop("timings_ms").keys() == expected.pop("timings_ms").keys()
    assert found == expected


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        pytest.param({"image": "text"}, NOT_AN_IMAGE, id="text named .png"),
        pytest.param({"image": "NIfTI", "classes": ["nose"]}, "'nose'", id="unknown class"),
        pytest.param({"image": "NIfTI", "min_score": 7}, "greater than maximum value 1", id="score too high"),
        pytest.param({"image": "NIfTI", "precision": "int3"}, "'int3'", id="unknown precision"),
    ],
)
def test_the_api_refuses_in_one_sentence(client, files, asked, sentence):
    with pytest.raises(AppError) as refused:
        client.predict(**(asked | {"image": handle_file(str(files[asked["image"]]))}), api_name="/segment")
    assert sentence in str(refused.value)
    assert "Traceback" not in str(refused.value)
    assert str(files["text"].parent) not in str(refused.value)


def test_the_api_reads_no_file_of_the_server(url, files):
    path = {"path": str(files["NIfTI"]), "meta": {"_type": "gradio.FileData"}}
    body = json.dumps({"data": [path, "int8", ["lung"], 0.3]}).encode()
    call = urllib.request.Request(f"{url}gradio_api/call/segment", body, {"content-type": "application/json"})
    with urllib.request.urlopen(call, timeout=30) as reply:
        event = json.load(reply)["event_id"]
    with urllib.request.urlopen(f"{url}gradio_api/call/segment/{event}", timeout=30) as reply:
        said = reply.read().decode()
    assert said.startswith("event: error")
    assert "detections" not in said


def test_the_api_is_documented(client):
    endpoints = client.view_api(return_format="dict")["named_endpoints"]
    asked = {
        name: [(given["parameter_name"], given["parameter_has_default"]) for given in endpoint["parameters"]]
        for name, endpoint in endpoints.items()
    }
    options = [("classes", True), ("min_score", True)]
    assert asked == {
        "/segment": [("image", False), ("precision", True), *options],
        "/compare": [("image", False), ("precision", True), ("other", True), *options],
    }


def test_precisions_are_compared(client, files):
    image = handle_file(str(files["Phantom: chest X-ray"]))
    found = client.predict(image=image, min_score=0.06, api_name="/compare")
    assert found["precisions"] == ["int8", "fp32"]
    assert found["dice"] and all(0 <= value <= 1 for value in found["dice"].values())
    assert found["mean_dice"] == pytest.approx(np.mean(list(found["dice"].values())), abs=1e-4)
    int8, fp32 = (times["total"] for times in found["timings_ms"])
    assert found["speed_ratio"] == pytest.approx(fp32 / int8, abs=0.01)
    assert found["weights_bytes"][0] < found["weights_bytes"][1]
    same = client.predict(image=image, min_score=0.06, other="int8", api_name="/compare")
    assert set(same["dice"].values()) == {1.0}


def test_importing_the_page_starts_nothing_and_opens_no_weights():
    code = (
        "import hub, threading; hub.resolve = None\n"
        "import app, gradio\n"
        "print(threading.active_count(), gradio.Blocks.get_instances())"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert (done.stdout, done.stderr) == ("1 []\n", "")


@pytest.mark.parametrize(
    ("words", "line"),
    [
        pytest.param(["--weights", "no/such/folder"], "no/such/folder", id="weights"),
        pytest.param(["--examples", "no/such/folder"], "no/such/folder: no such folder", id="examples"),
        pytest.param(["--port", "{port}"], "Cannot find empty port in range: {port}-{port}", id="port that is taken"),
    ],
)
def test_a_start_that_fails_is_one_line(url, release, words, line):
    port = url.rstrip("/").rpartition(":")[2]
    known = [] if "--weights" in words else ["--weights", str(release.folder)]
    words = [word.format(port=port) for word in words]
    done = subprocess.run(
        [sys.executable, "app.py", *words, *known], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 2
    [said] = done.stderr.splitlines()
    assert line.format(port=port) in said


# --- in a browser ------------------------------------------------------------------------------------------------


class Visit:
    """One page in one window, and what went wrong in it."""

    def __init__(self, browser, url: str, size: tuple[int, int]):
        self.page = browser.new_page(viewport={"width": size[0], "height": size[1]})
        self.outside, self.complaints = [], []
        self.page.on("request", self._note_request)
        self.page.on("console", lambda said: said.type == "error" and self.complaints.append(said.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self._home = url
        self.page.goto(url)
        self.page.wait_for_selector("#examples img")
        # Until the page listens, what is put into it is lost.
        self.page.wait_for_load_state("networkidle")

    def _note_request(self, request) -> None:
        if not request.url.startswith((self._home, "data:", "blob:")):
            self.outside.append(request.url)

    def upload(self, path: Path) -> None:
        self.page.set_input_files("input[type=file]", str(path))

    def wait_for(self, text: str) -> None:
        self.page.get_by_text(text).first.wait_for(timeout=60_000)

    def check(self) -> None:
        """Nothing went wrong, nothing was asked of others, and the notice is in sight."""
        assert self.outside == []
        assert self.complaints == []
        assert "Traceback" not in self.page.inner_text("body")
        notice = self.page.get_by_text(NOTICE)
        box, height = notice.bounding_box(), self.page.viewport_size["height"]
        assert notice.is_visible() and 0 <= box["y"] < box["y"] + box["height"] <= height
        assert self.page.evaluate("document.documentElement.scrollWidth") <= self.page.viewport_size["width"]


@pytest.fixture(scope="module")
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
    visit.page.close()


@pytest.mark.browser
def test_an_upload_shows_its_regions(visit, files, release, tmp_path):
    page = visit.page
    visit.upload(files["Phantom: chest X-ray"])
    page.wait_for_selector("#overlay img", timeout=60_000)
    visit.wait_for("found.")
    assert page.eval_on_selector("#overlay img", "image => [image.naturalWidth, image.naturalHeight]") == [512, 512]
    header = page.locator("#stages th").all_inner_texts()
    times = page.locator("#stages .ms").all_inner_texts()
    assert header == ["read", "detect", "embed", "decode", "post", "total"]
    assert int(times[-1]) > 0
    size = release.manifest["precisions"]["int8"]["bytes"] / 1e6
    assert f"Weights {size:.0f} MB, process" in page.inner_text("#facts")
    assert page.locator("#runs").count() == 0
    page.screenshot(path=tmp_path / "upload.png", full_page=True)
    visit.check()


@pytest.mark.data
@pytest.mark.browser
def test_a_real_image_shows_its_regions(visit, tmp_path):
    if "AUTOMEDSEG_DATA" not in os.environ:
        pytest.skip("AUTOMEDSEG_DATA is not set")
    path = sorted(Path(os.environ["AUTOMEDSEG_DATA"], "hc18_fetal_head", "images").iterdir())[0]
    visit.upload(path)
    visit.wait_for("found.")
    visit.wait_for("1 fetal_head")
    with Image.open(path) as image:
        assert visit.page.eval_on_selector("#overlay img", "image => image.naturalWidth") == image.width
    visit.page.screenshot(path=tmp_path / "real.png", full_page=True)
    visit.check()


@pytest.mark.browser
@pytest.mark.parametrize("name", ["Phantom: chest X-ray", "NIfTI"])
def test_files_to_take_away_open_and_say_what_the_api_says(visit, client, files, name, tmp_path):
    page = visit.page
    visit.upload(files[name])
    visit.wait_for("found.")
    page.get_by_role("button", name="Files to take away").click()
    page.get_by_role("button", name="Make the files").click()
    page.wait_for_selector("#files a[download]", timeout=60_000)
    taken = {}
    for link in page.locator("#files a[download]").all():
        with page.expect_download() as download:
            link.click()
        kept = tmp_path / download.value.suggested_filename
        download.value.save_as(kept)
        taken[kept.name] = kept
    stem = files[name].name.partition(".")[0]
    ends = ["_mask.png", "_overlay.png", ".json", "_coco.json", *(["_seg.nii.gz"] if name == "NIfTI" else [])]
    assert sorted(taken) == sorted(stem + end for end in ends)
    expected = client.predict(image=handle_file(str(files[name])), api_name="/segment")
    record = json.loads(taken[f"{stem}.json"].read_text("utf-8"))
    assert record | {"timings_ms": None} == expected | {"timings_ms": None}
    labels = np.asarray(Image.open(taken[f"{stem}_mask.png"]))
    assert set(np.unique(labels)) == {0, *(found["class_id"] for found in expected["detections"])}
    with Image.open(taken[f"{stem}_overlay.png"]) as overlay:
        assert overlay.size == labels.shape[::-1]
    coco = COCO(taken[f"{stem}_coco.json"])
    assert [note["segmentation"] for note in coco.dataset["annotations"]] == [
        found["rle"] for found in expected["detections"]
    ]
    page.screenshot(path=tmp_path / "files.png", full_page=True)
    if name == "NIfTI":
        volume = nibabel.load(taken[f"{stem}_seg.nii.gz"])
        assert np.array_equal(volume.affine, nibabel.load(files[name]).affine)
        assert np.array_equal(np.asarray(volume.dataobj), labels[::-1, ::-1].T)
    visit.check()


@pytest.mark.browser
def test_precisions_are_compared_side_by_side(visit, files, tmp_path):
    page = visit.page
    visit.upload(files["Phantom: chest X-ray"])
    visit.wait_for("found.")
    page.get_by_role("button", name="Compare precisions").click()
    page.get_by_role("button", name="Compare", exact=True).click()
    page.wait_for_selector("#comparison li", timeout=60_000)
    assert page.locator("#slider img").count() == 2
    assert "FP32 takes" in page.inner_text("#comparison")
    page.screenshot(path=tmp_path / "comparison.png", full_page=True)
    page.get_by_label("FP32").last.check()
    page.wait_for_selector("#runs", timeout=60_000)
    assert page.locator("#runs th").all_inner_texts() == ["INT8", "FP32"]
    page.screenshot(path=tmp_path / "runs.png", full_page=True)
    # a comparison of another run does not stay
    page.wait_for_function("document.querySelectorAll('#slider img').length === 0")
    visit.check()


@pytest.mark.browser
def test_twenty_uploads_at_once_are_all_answered(browser, url, files):
    contexts = [browser.new_context() for _ in range(4)]
    pages = [context.new_page() for context in contexts for _ in range(5)]
    for page in pages:
        page.goto(url)
        page.wait_for_selector("#examples img")
        page.wait_for_load_state("networkidle")
    for page in pages:
        page.set_input_files("input[type=file]", str(files["Phantom: chest X-ray"]))
    for page in pages:
        page.get_by_text("found.").first.wait_for(timeout=120_000)
    for context in contexts:
        context.close()


@pytest.mark.browser
def test_an_image_of_nothing_known_is_flagged(visit, client, files, release, tmp_path):
    if "scope" not in release.config:
        pytest.skip("these weights can't tell")
    assert client.predict(image=handle_file(str(files["noise"])), api_name="/segment")["out_of_scope"] is True
    visit.upload(files["noise"])
    visit.wait_for(OUT_OF_SCOPE)
    assert visit.page.get_by_role("alert").inner_text() == OUT_OF_SCOPE
    visit.page.screenshot(path=tmp_path / "strange.png", full_page=True)
    visit.check()


@pytest.mark.browser
def test_what_is_no_image_is_said_in_the_page(visit, files, tmp_path):
    visit.upload(files["text"])
    visit.wait_for(NOT_AN_IMAGE)
    said = visit.page.inner_text("#status")
    assert said.endswith(NOT_AN_IMAGE)
    assert str(files["text"].parent) not in said
    assert visit.page.locator("#status b").count() == 0
    assert visit.page.locator("#overlay img").count() == 0
    visit.page.screenshot(path=tmp_path / "refused.png", full_page=True)
    visit.check()


@pytest.mark.browser
def test_the_next_upload_clears_the_error_and_the_reverse(visit, files):
    visit.upload(files["text"])
    visit.wait_for(NOT_AN_IMAGE)
    visit.page.get_by_label("Clear").first.click()
    visit.page.wait_for_function("document.querySelector('#status').innerText.trim() === ''")
    visit.upload(files["NIfTI"])
    visit.wait_for("found.")
    assert visit.page.eval_on_selector("#overlay img", "image => image.naturalWidth") == 256
    visit.check()


@pytest.mark.browser
def test_examples_are_named_and_run(visit, examples_folder):
    page = visit.page
    captions = page.locator("#examples .caption-label").all_inner_texts()
    assert [caption for caption in captions if caption.startswith("Phantom: ")] == captions[:5]
    assert captions[5:] == ["ours.png"]
    page.locator("#examples button").nth(5).click()
    visit.wait_for("found.")
    assert page.eval_on_selector("#overlay img", "image => [image.naturalWidth, image.naturalHeight]") == [90, 60]
    visit.check()


@pytest.mark.browser
def test_the_options_run_it_again(visit, files):
    page = visit.page
    visit.upload(files["Phantom: chest X-ray"])
    visit.wait_for("found.")
    score = page.get_by_label("number input for Minimum score")
    score.fill("0.06")
    score.press("Enter")
    page.wait_for_function("document.querySelectorAll('#detections tbody tr').length > 0")
    for name in page.locator("label", has=page.locator("input[type=checkbox]")).all():
        name.click()
    visit.wait_for("Nothing found.")
    visit.check()
