"""A person corrects on the page: with a mouse, with a finger, with keys alone."""

from __future__ import annotations

import pytest

from tests.page.conftest import DESKTOP, PHONE, Visit

pytestmark = pytest.mark.browser

CHEST, SIZE = "Phantom: chest X-ray", (512, 512)


@pytest.fixture
def chest(desk, files) -> Visit:
    desk.upload(files[CHEST])
    desk.wait_for("2 regions found.")
    return desk


def box_of(row: list[str]) -> list[int]:
    """[x, y, width, height] of a row of the table."""
    return [int(value) for value in row[3].split(", ")]


def areas(rows: list[list[str]]) -> list[int]:
    return [int(row[5]) for row in rows]


def test_a_moved_box_changes_one_mask_and_undo_brings_it_back(chest, tmp_path):
    before = chest.rows()
    x, y, width, height = box_of(before[1])
    grip = x + width // 2, y + height // 3
    chest.page.mouse.click(*chest.place(*grip, *SIZE))
    assert chest.page.locator("#canvas tbody tr.chosen .swatch").inner_text() == "2"
    chest.drag(grip, (grip[0] - 10, grip[1] - 30), SIZE)
    after = chest.rows()
    assert after[0] == before[0]
    assert after[1][2] == "corrected" and after[1][3] != before[1][3] and after[1][5] != before[1][5]
    assert "Corrections: 1." in chest.page.inner_text("#status")
    stages = dict(zip(chest.page.locator("#stages th").all_inner_texts(),
                      chest.page.locator("#stages .ms").all_inner_texts(), strict=True))  # fmt: skip
    assert stages["detect"] == stages["embed"] == "0" and int(stages["decode"]) > 0
    chest.page.screenshot(path=tmp_path / "moved.png")
    chest.page.get_by_role("button", name="Undo").click()
    chest.settle()
    assert chest.rows() == before
    assert chest.page.get_by_role("button", name="Undo").is_disabled()
    chest.check()


def test_a_corner_resizes(chest):
    x, y, width, height = box_of(chest.rows()[0])
    chest.page.mouse.click(*chest.place(x + width // 2, y + height // 2, *SIZE))
    chest.drag((x + width, y + height), (x + width - 40, y + height - 60), SIZE)
    assert box_of(chest.rows()[0]) == pytest.approx([x, y, width - 40, height - 60], abs=2)


def test_a_drawn_box_clicks_a_label_and_a_deletion(chest, tmp_path):
    page = chest.page
    before = chest.rows()
    chest.use("New box")
    chest.drag((220, 230), (290, 330), SIZE)
    drawn = chest.rows()
    assert drawn[:2] == before and drawn[2][:3] == ["3", "region", "corrected"]
    chest.use("Take away")
    page.mouse.click(*chest.place(255, 270, *SIZE))
    chest.settle()
    clicked = chest.rows()
    assert clicked[:2] == before and clicked[2][5] != drawn[2][5]
    assert page.locator("#canvas svg circle").count() == 1
    page.screenshot(path=tmp_path / "clicked.png")
    chest.use("Add")
    page.mouse.click(*chest.place(310, 280, *SIZE))
    chest.settle()
    wider = [int(value) for value in chest.rows()[2][3].split(", ")]
    assert wider[0] + wider[2] >= 310
    page.get_by_label("Label of region 3").select_option("polyp")
    chest.settle()
    assert chest.rows()[2][1] == "polyp"
    page.get_by_label("Delete region 1").click()
    chest.settle()
    assert [row[:2] for row in chest.rows()] == [["1", "lung"], ["2", "polyp"]]
    assert "Corrections: 5." in page.inner_text("#status")
    for _ in range(5):
        page.get_by_role("button", name="Undo").click()
        chest.settle()
    assert chest.rows() == before
    chest.check()


def test_quick_edits_are_all_made(chest):
    """Each waits for the answer before it, because the regions' numbers may change with it."""
    chest.page.get_by_label("Label of region 2").select_option("polyp")
    chest.page.get_by_label("Delete region 1").click()
    chest.page.wait_for_function("document.querySelectorAll('#canvas tbody tr').length === 1")
    chest.settle()
    assert chest.rows()[0][:2] == ["1", "polyp"]
    assert "Corrections: 2." in chest.page.inner_text("#status")


def test_another_image_starts_without_corrections(chest):
    chest.page.get_by_label("Delete region 1").click()
    chest.settle()
    chest.page.locator("#examples button").nth(2).click()
    chest.page.wait_for_function("document.querySelector('#canvas img').naturalWidth === 400")
    assert "Corrections" not in chest.page.inner_text("#status")
    assert chest.page.get_by_role("button", name="Undo").is_disabled()


def test_keys_alone_are_enough(chest):
    page, keys = chest.page, chest.page.keyboard
    before = chest.rows()
    page.get_by_role("radio", name="Select").focus()
    keys.press("Tab")  # Undo has nothing to undo yet, so: opacity, then the image
    keys.press("Tab")
    assert page.evaluate("document.activeElement.className").startswith("stage")
    keys.press("Enter")
    keys.press("ArrowRight")
    keys.press("Shift+ArrowDown")
    page.wait_for_timeout(500)
    chest.settle()
    x, y, width, height = (int(value) for value in before[0][3].split(", "))
    moved = [int(value) for value in chest.rows()[0][3].split(", ")]
    assert moved == pytest.approx([x + 5, y, width, height + 5], abs=1)
    keys.press("Control+z")
    chest.settle()
    assert chest.rows() == before
    keys.press("Delete")
    chest.settle()
    assert chest.rows()[0][5] == before[1][5]
    page.get_by_role("radio", name="Select").focus()
    keys.press("ArrowRight")
    assert page.evaluate("document.activeElement.dataset.tool") == "new"
    page.locator("#canvas .stage").focus()
    keys.press("ArrowLeft")
    keys.press("Enter")
    chest.settle()
    assert [row[1] for row in chest.rows()] == ["lung", "region"]
    chest.check()


def test_a_finger_draws_and_taps(browser, url, files, tmp_path):
    visit = Visit(browser, url, PHONE)
    page = visit.page
    visit.upload(files[CHEST])
    visit.wait_for("2 regions found.")
    visit.use("New box")
    touch = visit.context.new_cdp_session(page)
    (x0, y0), (x1, y1) = visit.place(220, 230, *SIZE), visit.place(300, 330, *SIZE)
    for kind, points in (
        ("touchStart", [(x0, y0)]), ("touchMove", [((x0 + x1) / 2, (y0 + y1) / 2)]), ("touchMove", [(x1, y1)]),
        ("touchEnd", []),
    ):  # fmt: skip
        touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [{"x": x, "y": y} for x, y in points]})
    visit.settle()
    drawn = visit.rows()
    assert drawn[2][:3] == ["3", "region", "corrected"]
    assert [int(value) for value in drawn[2][3].split(", ")] == pytest.approx([220, 230, 80, 100], abs=3)
    visit.use("Take away")
    page.touchscreen.tap(*visit.place(255, 270, *SIZE))
    visit.settle()
    assert areas(visit.rows())[:2] == areas(drawn)[:2] and areas(visit.rows())[2] != areas(drawn)[2]
    page.screenshot(path=tmp_path / "finger.png")
    visit.check()
    visit.context.close()


def test_two_visitors_correct_their_own_image(browser, url, files):
    visits = [Visit(browser, url, DESKTOP) for _ in range(2)]
    for visit in visits:
        visit.upload(files[CHEST])
        visit.wait_for("2 regions found.")
    visits[0].page.get_by_label("Delete region 1").click()
    visits[1].page.get_by_label("Label of region 1").select_option("polyp")
    for visit in visits:
        visit.settle()
    assert len(visits[0].rows()) == 1
    assert [row[1] for row in visits[1].rows()] == ["polyp", "lung"]
    for visit in visits:
        visit.context.close()


def test_corrections_outlast_other_options(chest, tmp_path):
    page = chest.page
    before = chest.rows()
    chest.use("New box")
    chest.drag((220, 230), (290, 330), SIZE)
    page.get_by_label("Label of region 1").select_option("polyp")
    chest.settle()
    page.get_by_label("Delete region 2").click()
    chest.settle()
    corrected = chest.rows()
    assert [row[1] for row in corrected] == ["polyp", "region"]

    page.get_by_label("FP32").check()
    page.wait_for_selector("#runs")
    chest.settle()
    assert [row[1:3] for row in chest.rows()] == [["polyp", "corrected"], ["region", "corrected"]]
    assert "Corrections: 3." in page.inner_text("#status")
    page.get_by_label("INT8").check()
    page.wait_for_function("text => document.querySelector('#canvas tbody tr').innerText.includes(text)",
                           arg=corrected[0][3])  # fmt: skip
    assert chest.rows() == corrected

    score = page.get_by_label("number input for Minimum score")
    score.fill("0.99")
    score.press("Enter")
    page.wait_for_function("document.querySelectorAll('#canvas svg .badge').length === 2")
    chest.settle()
    assert sorted(row[1] for row in chest.rows()) == ["polyp", "region"]
    assert chest.record()["detections"][0]["corrected"] is True
    page.screenshot(path=tmp_path / "kept.png", full_page=True)

    page.get_by_role("button", name="Undo").click()  # the deletion, of what is not found with this score
    chest.settle()
    page.get_by_role("button", name="Undo").click()  # the other label
    chest.settle()
    assert [row[1] for row in chest.rows()] == ["region"]
    score.fill("0.3")
    score.press("Enter")
    page.wait_for_function("document.querySelectorAll('#canvas tbody tr').length === 3")
    assert chest.rows()[:2] == before
    chest.check()


def test_options_that_are_refused_lose_no_correction(chest):
    page = chest.page
    page.get_by_label("Delete region 2").click()
    chest.settle()
    page.get_by_label("FP16").check()
    chest.wait_for("fp16 computes in half precision on CUDA")
    page.get_by_label("INT8").check()
    chest.wait_for("1 region found.")
    assert "Corrections: 1." in page.inner_text("#status")
    page.get_by_role("button", name="Undo").click()
    chest.settle()
    assert len(chest.rows()) == 2
