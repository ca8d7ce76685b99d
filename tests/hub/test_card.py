import pytest
import yaml
from huggingface_hub import ModelCard

from hub import Release, WeightsError
from hub.card import figures_table, fill, model_card
from hub.release import write_manifest
from hub.sources import SOURCES, sources_table
from tests.hub.conftest import FIGURES

TABLE = """\
The test split, with automatic boxes.

| source | class | images | Dice int8 | IoU int8 | box recall int8 | Dice fp32 | IoU fp32 | box recall fp32 |
| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |
| kvasir_seg_polyp | polyp | 90 | 0.750 | 0.600 | 0.850 | 0.760 | 0.610 | 0.860 |
| msd_task04_hippocampus | hippocampus | 300 | 0.850 | 0.800 | - | - | - | - |
| **mean over sources** | | | 0.800 | 0.700 | 0.900 | 0.810 | 0.710 | 0.910 |

Median time of an image: int8 150 ms.

Made by `python -m eval figures --data PREPARED --split test` (2 cores, abc1234)."""


@pytest.mark.parametrize(
    ("manifest", "expected"),
    [
        pytest.param({"figures": FIGURES}, TABLE, id="two precisions, gaps are dashes"),
        pytest.param({"figures": {}}, "No figures were measured for this release yet.", id="empty"),
        pytest.param({}, "No figures were measured for this release yet.", id="absent"),
        pytest.param(
            {"figures": {"split": "test", "options": {"threads": 2}}},
            "No figures were measured for this release yet.",
            id="a split, no precision",
        ),
    ],
)
def test_figures_table(manifest, expected):
    assert figures_table(manifest) == expected


def test_front_matter_is_what_the_hub_reads(release_folder):
    card = ModelCard(model_card(Release.open(release_folder)))
    data = yaml.safe_load(card.data.to_yaml())
    assert data["license"] == "cc-by-nc-sa-4.0"
    assert data["library_name"] == "onnx"
    assert data["pipeline_tag"] == "image-segmentation"
    assert data["datasets"] == ["kvasir_seg_polyp"]
    assert {"medical", "int8"} <= set(data["tags"])


@pytest.mark.parametrize(
    "line",
    [
        "# AutoMedSeg 0.1.0",
        "**Research software, not a medical device.**",
        "| Kvasir-SEG (`kvasir_seg_polyp`) | colonoscopy | polyp | research and education only |",
        "| 1 | hippocampus | 0.3 |",
        "| 2 | polyp | 0.4 |",
        "| fp32 | 0.0 MB | Stored as float16. |",
        "| kvasir_seg_polyp | polyp | 90 | 0.750 | 0.600 | 0.850 | 0.760 | 0.610 | 0.860 |",
        "- detector: from random weights",
        "- `kvasir_seg_polyp`: images 700",
        "Made from revision `abc1234`, 2026-01-02T03:04:05+00:00.",
    ],
)
def test_card_says(release_folder, line):
    assert line in model_card(Release.open(release_folder)).splitlines()


def test_no_diagnosis_without_the_notice(release_folder):
    (line,) = [line for line in model_card(Release.open(release_folder)).splitlines() if "diagnos" in line.lower()]
    assert line.endswith("this is research software, not a medical device.")


def test_card_names_only_the_sets_it_was_trained_on(release_folder):
    assert "HC18" not in model_card(Release.open(release_folder))


def test_sources_table_has_a_row_a_set_and_knows_a_users_own():
    assert len(sources_table().splitlines()) == 2 + len(SOURCES)
    assert sources_table(["mine"]).splitlines()[2] == "| `mine` |  |  | its owner's |"


def test_fill_replaces_what_is_between_the_marks():
    text = "a\n<!-- figures -->\nold\n\\1\n<!-- /figures -->\nb"
    assert fill(text, "figures", "new \\1") == "a\n<!-- figures -->\nnew \\1\n<!-- /figures -->\nb"
    with pytest.raises(WeightsError, match="no <!-- other -->"):
        fill(text, "other", "new")


def test_training_runs_and_their_plots_are_shown(release_folder):
    run = {"network": "detector", "command": "python -m pipeline train detector --seed 3", "seed": 3, "samples": 800}
    run |= {"minutes": 1.5, "machine": "2 threads on a processor", "revision": "abc1234", "data": "0123456789abcdef"}
    (release_folder / "training" / "detector.png").write_bytes(b"a plot")

    def card(**trained_on: object) -> str:
        return model_card(write_manifest(release_folder, version="0.1.0", revision="abc1234", trained_on=trained_on))

    said = card(detector="by hand", runs=[run])
    assert "- detector: 800 samples, 1.5 minutes, 2 threads on a processor; seed 3, revision abc1234, data 0123" in said
    assert "  python -m pipeline train detector --seed 3\n" in said
    assert "![training/detector.png](training/detector.png)" in said
    assert "Training runs" not in card(detector="by hand")
