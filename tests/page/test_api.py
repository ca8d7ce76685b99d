"""The named endpoints, as gradio_client and an MCP client meet them, and how the page starts."""

from __future__ import annotations

import ast
import base64
import json
import subprocess
import sys
import threading
from pathlib import Path

import anyio
import numpy as np
import pytest
from gradio_client.exceptions import AppError
from mcp import ClientSession
from mcp.client.streamable_http import streamable_http_client
from pycocotools import mask

from tests.page.conftest import ROOT

NOT_AN_IMAGE = "holds text, whatever its name says; expected a PNG, JPEG, TIFF, single DICOM or 2-D NIfTI file"


def command_line(path: Path, out: Path, release, *options: str) -> dict:
    subprocess.run(
        [sys.executable, "-m", "pipeline", "segment", path, "--out", out, "--weights", release.folder, *options],
        cwd=ROOT, check=True, capture_output=True, timeout=120,
    )  # fmt: skip
    [record] = out.glob("*.json")
    return json.loads(record.read_text("utf-8"))


@pytest.mark.parametrize(
    ("name", "asked", "options"),
    [
        pytest.param("Phantom: chest X-ray", {}, [], id="as it comes"),
        pytest.param("Phantom: chest X-ray", {"classes": ["polyp", "lung"], "min_score": 0.06},
                     ["--classes", "lung,polyp", "--min-score", "0.06"], id="some classes"),
        pytest.param("Phantom: fetal ultrasound", {"precision": "fp32"}, ["--precision", "fp32"], id="fp32"),
        pytest.param("NIfTI", {"min_score": 0.06}, ["--min-score", "0.06"], id="NIfTI with spacing"),
        pytest.param("DICOM", {"min_score": 0.06}, ["--min-score", "0.06"], id="DICOM"),
    ],
)  # fmt: skip
def test_the_page_and_the_command_line_say_the_same(ask, files, release, tmp_path, name, asked, options):
    expected = command_line(files[name], tmp_path, release, *options)
    found = ask("/segment", name, **asked)
    assert list(found) == list(expected)
    assert found.pop("file") == Path(expected.pop("file")).name
    assert found.pop("timings_ms").keys() == expected.pop("timings_ms").keys()
    assert found == expected


@pytest.mark.parametrize(
    ("endpoint", "name", "asked", "sentence"),
    [
        pytest.param("/segment", "text", {}, NOT_AN_IMAGE, id="text named .png"),
        pytest.param("/segment", "NIfTI", {"classes": ["nose"]}, "'nose'", id="unknown class"),
        pytest.param("/segment", "NIfTI", {"min_score": 7}, "greater than maximum value 1", id="score too high"),
        pytest.param("/segment", "NIfTI", {"precision": "int3"}, "'int3'", id="unknown precision"),
        pytest.param("/segment", "NIfTI", {"precision": "fp16"}, "fp16 computes in half precision on CUDA", id="fp16"),
        pytest.param("/correct", "text", {"edits": []}, NOT_AN_IMAGE, id="correct: text named .png"),
        pytest.param("/correct", "NIfTI", {"edits": [{"action": "paint"}]}, "edit 1: action 'paint'", id="no edit"),
        pytest.param("/correct", "NIfTI", {"edits": [{"action": "delete", "region": 99}]}, "region 99: no such region",
                     id="no such region"),
        pytest.param("/compare", "text", {}, NOT_AN_IMAGE, id="compare: text named .png"),
    ],
)  # fmt: skip
def test_the_api_refuses_in_one_sentence(ask, files, endpoint, name, asked, sentence):
    with pytest.raises(AppError) as refused:
        ask(endpoint, name, **asked)
    assert sentence in str(refused.value)
    assert "Traceback" not in str(refused.value)
    assert str(files["text"].parent) not in str(refused.value)


def test_the_api_is_documented(client):
    endpoints = client.view_api(return_format="dict")["named_endpoints"]
    asked = {
        name: [(given["parameter_name"], given["parameter_has_default"]) for given in endpoint["parameters"]]
        for name, endpoint in endpoints.items()
    }
    options = [("classes", True), ("min_score", True)]
    assert asked == {
        "/segment": [("image", False), ("precision", True), *options],
        "/correct": [("image", False), ("edits", True), ("precision", True), *options],
        "/compare": [("image", False), ("precision", True), ("other", True), *options],
        "/segment_stack": [("files", False), ("precision", True), *options, ("cut", True), ("window", True)],
    }
    assert all("not a medical device" in endpoint["description"] for endpoint in endpoints.values())
    edits = endpoints["/correct"]["parameters"][1]["type"]
    assert edits["items"]["properties"]["action"]["enum"] == ["add", "box", "click", "relabel", "delete"]


def test_a_correction_changes_one_region_and_says_so(ask):
    name = "Phantom: chest X-ray"
    before = ask("/segment", name)
    rows, columns = np.nonzero(mask.decode(before["detections"][0]["rle"]))
    row, column = int(rows[len(rows) // 2]), int(columns[len(rows) // 2])
    edits = [
        {"action": "click", "region": 1, "point": [column, row], "inside": False},
        {"action": "add", "box": [200, 200, 60, 80]},
    ]
    after = ask("/correct", name, edits=edits)
    assert after["edits"] == edits
    assert ["corrected" in region for region in after["detections"]] == [True, False, True]
    first, second, added = after["detections"]
    assert not mask.decode(first["rle"])[row, column]
    assert second == before["detections"][1]
    assert (added["label"], added["class_id"], added["score"], added["box"]) == ("region", 255, 1.0, [200, 200, 60, 80])
    assert after["timings_ms"]["detect"] == after["timings_ms"]["embed"] == 0
    undone = ask("/correct", name, edits=edits[:1])
    assert undone["detections"] == [first, second]
    assert ask("/correct", name, edits=[])["detections"] == before["detections"]


def test_precisions_are_compared(ask):
    found = ask("/compare", "Phantom: chest X-ray", min_score=0.06)
    assert found["precisions"] == ["int8", "fp32"]
    assert found["dice"] and all(0 <= value <= 1 for value in found["dice"].values())
    assert found["mean_dice"] == pytest.approx(np.mean(list(found["dice"].values())), abs=1e-4)
    int8, fp32 = (times["total"] for times in found["timings_ms"])
    assert found["speed_ratio"] == pytest.approx(fp32 / int8, abs=0.01)
    assert found["weights_bytes"][0] < found["weights_bytes"][1]
    assert all(times["embed"] > times["post"] for times in found["timings_ms"])  # measured whole, not from what is kept
    same = ask("/compare", "Phantom: chest X-ray", min_score=0.06, other="int8")
    assert set(same["dice"].values()) == {1.0}


def with_mcp(url: str, ask):
    """What `ask(session)` gives, over MCP. In a thread of its own: Playwright keeps a loop in this one."""

    async def run() -> None:
        async with (
            streamable_http_client(f"{url}gradio_api/mcp/") as (receive, send, _),
            ClientSession(receive, send) as session,
        ):
            await session.initialize()
            answers.append(await ask(session))

    answers: list = []
    thread = threading.Thread(target=anyio.run, args=(run,))
    thread.start()
    thread.join(timeout=120)
    return answers[0]


def test_mcp_clients_find_and_call_the_endpoints(ask, url, files):
    image = "data:image/png;base64," + base64.b64encode(files["Phantom: chest X-ray"].read_bytes()).decode()

    async def talk(session: ClientSession):
        tools = (await session.list_tools()).tools
        edits = [{"action": "delete", "region": 1}]
        calls = [
            await session.call_tool("segment", {"image": image}),
            await session.call_tool("correct", {"image": image, "edits": edits}),
            await session.call_tool("correct", {"image": image, "edits": [{"action": "delete", "region": 99}]}),
        ]
        return tools, calls

    tools, (found, corrected, refused) = with_mcp(url, talk)
    assert [tool.name for tool in tools] == ["segment", "correct", "compare", "segment_stack"]
    assert all("not a medical device" in tool.description for tool in tools)
    assert '"action": "click"' in tools[1].description
    assert tools[1].inputSchema["properties"]["edits"]["items"]["required"] == ["action"]
    detections = ask("/segment", "Phantom: chest X-ray")["detections"]
    assert ast.literal_eval(found.content[0].text)["detections"] == detections
    assert ast.literal_eval(corrected.content[0].text)["detections"] == detections[1:]
    assert refused.isError and refused.content[0].text.startswith("region 99: no such region")


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
