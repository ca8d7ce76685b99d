"""The Dockerfile copies what the page needs and starts it; citation and changelog name the release that ships."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from hub import resolve

ROOT = Path(__file__).parents[1]
DOCKERFILE = (ROOT / "Dockerfile").read_text("utf-8")
IGNORED = (ROOT / ".dockerignore").read_text("utf-8").splitlines()


def test_what_is_copied_exists_and_is_let_through():
    copied = [name for line in re.findall(r"^COPY (.+) \S+$", DOCKERFILE, re.MULTILINE) for name in line.split()]
    assert sorted(copied) == ["LICENSE", "app.py", "hub", "page", "pipeline", "requirements.txt"]
    assert IGNORED[0] == "*"
    for name in copied:
        assert (ROOT / name).exists()
        assert f"!{name}" in IGNORED


def test_page_is_what_starts_and_not_as_root():
    front_matter = yaml.safe_load((ROOT / "README.md").read_text("utf-8").split("---\n")[1])
    assert f'ENTRYPOINT ["python", "{front_matter["app_file"]}"]' in DOCKERFILE
    assert f"FROM python:{front_matter['python_version']}-slim" in DOCKERFILE
    assert DOCKERFILE.index("USER page") < DOCKERFILE.index("ENTRYPOINT")


def test_citation_and_changelog_name_the_embedded_release():
    release = resolve()
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    assert {"cff-version", "message", "title", "authors"} <= set(citation)  # what the format asks for
    assert citation["version"] == release.version
    assert str(citation["date-released"]) == release.manifest["created"][:10]
    headings = re.findall(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE)
    assert headings[:2] == ["Unreleased", release.version]
