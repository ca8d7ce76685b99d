"""Both languages say the same things."""

from __future__ import annotations

import re

import gradio as gr
import pytest
from starlette.requests import Request

from page.words import LANGUAGES, TABLES, Words
from pipeline.examples import gather_examples, gather_stack_examples


def test_both_languages_have_the_same_keys_and_values_to_fill_in():
    english, vietnamese = (TABLES[language] for language in LANGUAGES)
    assert english.keys() == vietnamese.keys()
    for key, text in english.items():
        assert text and vietnamese[key]
        assert sorted(re.findall(r"{\w+}", text)) == sorted(re.findall(r"{\w+}", vietnamese[key])), key


def test_every_class_and_example_has_a_name_in_both(release, tmp_path):
    names = {f"class.{entry['name']}" for entry in release.config["classes"]}
    captions = {each.caption for each in (*gather_examples(tmp_path)[0], *gather_stack_examples(tmp_path))}
    assert names | captions <= TABLES["en"].keys()


@pytest.mark.parametrize(
    ("header", "language"),
    [
        ("vi-VN,vi;q=0.9,en;q=0.8", "vi"),
        ("vi", "vi"),
        ("VI", "vi"),
        ("en-US,en;q=0.9,vi;q=0.8", "en"),
        ("fr-FR", "en"),
        ("", "en"),
    ],
)
def test_the_browser_s_first_language_decides(header, language):
    scope = {"type": "http", "headers": [(b"accept-language", header.encode())]}
    words = Words.of(gr.Request(Request(scope)))
    assert words("undo") == TABLES[language]["undo"]


def test_values_are_filled_in_and_unknown_classes_stay():
    words = Words("vi")
    assert words("found_many", count=3) == "Tìm thấy 3 vùng."
    assert (words.label("lung"), words.label("spleen")) == ("phổi", "spleen")
    assert words.caption("ours.png") == "ours.png"
    assert Words.of(None)("undo") == "Undo"
