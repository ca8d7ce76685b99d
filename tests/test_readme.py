"""The README's promises that a machine can check: front-matter, set-up commands, generated tables."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml

from eval.readme import fill_comparison
from eval.report import markdown
from hub import resolve
from hub.card import fill_readme, model_card

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text("utf-8")
TABLE = ROOT / "eval" / "results" / "table"


def test_front_matter_starts_the_space():
    data = yaml.safe_load(README.split("---\n")[1])
    gradio = re.search(r"^gradio(?:\[mcp\])?==(\S+)$", (ROOT / "requirements.txt").read_text(), re.MULTILINE)[1]
    assert (data["sdk"], data["sdk_version"], data["python_version"]) == ("gradio", gradio, "3.11")
    assert (ROOT / data["app_file"]).is_file()
    # the colours and the length that the Hub accepts
    assert {data["colorFrom"], data["colorTo"]} <= {
        "red",
        "yellow",
        "green",
        "blue",
        "indigo",
        "purple",
        "pink",
        "gray",
    }
    assert len(data["short_description"]) <= 60


@pytest.mark.parametrize(
    "command",
    ["pip install -r requirements.txt && python app.py", "pip install -r requirements-dev.txt && pytest"],
)
def test_ci_runs_the_set_up_commands_of_the_readme(command):
    assert README.splitlines().count(command) == 1
    file = command.split()[3]
    assert f"$(command_of {file})" in (ROOT / ".ci/run").read_text()


def test_no_diagnosis_without_the_notice():
    assert "Research software, not a medical device." in README
    for paragraph in re.split(r"\n\s*\n", README):
        if "diagnos" in paragraph.lower():
            assert "not a medical device" in paragraph


def test_tables_are_those_of_the_embedded_release():
    release = resolve()
    hint = f"run python -m hub card {release.folder} --readme README.md"
    assert fill_readme(README, release.manifest) == README, hint


def test_comparison_is_that_of_the_last_table():
    results = json.loads((TABLE / "results.json").read_text("utf-8"))
    command = "run python -m eval readme eval/results/table/results.json --readme README.md"
    assert fill_comparison(README, results) == README, command
    assert markdown(results) == (TABLE / "table.md").read_text("utf-8"), command


def test_comparison_is_of_the_embedded_release():
    """The table's figures are the manifest's, where both were measured on all images of a source."""
    results, release = json.loads((TABLE / "results.json").read_text("utf-8")), resolve()
    assert results["weights"]["version"] == release.version, "run python -m eval table again, see eval/README.md"
    compared = 0
    for precision in release.precisions:
        ours = results["rows"].get(precision, {}).get("figures", {}).get("sources", {})
        for name, figures in release.manifest["figures"].get(precision, {}).get("sources", {}).items():
            if ours.get(name, {}).get("images") == figures["images"]:
                assert ours[name]["dice"] == pytest.approx(figures["dice"], abs=2e-4), (precision, name)
                assert ours[name]["iou"] == pytest.approx(figures["iou"], abs=2e-4), (precision, name)
                compared += 1
    assert compared


def test_embedded_card_is_current():
    release = resolve()
    card = (release.folder / "README.md").read_text("utf-8")
    assert card == model_card(release), f"run python -m hub card {release.folder}"


def test_embedded_classes_are_those_of_the_readme():
    for entry in resolve().config["classes"]:
        assert f"| {entry['id']} | `{entry['name']}` |" in README
