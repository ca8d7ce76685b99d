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
    assert sources_table(["mine"]).splitlines()[2] == "| `mine` | | | its owner's |"


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


def test_model_index_holds_every_figure_with_its_split(release_folder):
    """By the specification's fields, read back by the client: `validate()` itself would ask the server."""
    data = ModelCard(model_card(Release.open(release_folder))).data
    assert data.model_name == "AutoMedSeg 0.1.0"
    found = {(r.dataset_type, r.metric_name): r.metric_value for r in data.eval_results}
    assert {r.dataset_split for r in data.eval_results} == {"test"}
    assert {r.task_type for r in data.eval_results} == {"image-segmentation"}
    assert found == {
        ("kvasir_seg_polyp", "Dice, int8"): 0.75,
        ("kvasir_seg_polyp", "IoU, int8"): 0.6,
        ("kvasir_seg_polyp", "Box recall at IoU 0.5, int8"): 0.85,
        ("msd_task04_hippocampus", "Dice, int8"): 0.85,
        ("msd_task04_hippocampus", "IoU, int8"): 0.8,
        ("all", "Dice, int8"): 0.8,
        ("all", "IoU, int8"): 0.7,
        ("all", "Box recall at IoU 0.5, int8"): 0.9,
        ("all", "Median milliseconds an image, int8"): 150.4,
        ("kvasir_seg_polyp", "Dice, fp32"): 0.76,
        ("kvasir_seg_polyp", "IoU, fp32"): 0.61,
        ("kvasir_seg_polyp", "Box recall at IoU 0.5, fp32"): 0.86,
        ("all", "Dice, fp32"): 0.81,
        ("all", "IoU, fp32"): 0.71,
        ("all", "Box recall at IoU 0.5, fp32"): 0.91,
    }
    assert set(data.metrics) == {r.metric_type for r in data.eval_results}


def test_without_figures_there_is_no_model_index(release_folder):
    release = write_manifest(release_folder, version="0.1.0", revision="abc1234", trained_on={})
    data = ModelCard(model_card(release)).data
    assert data.eval_results is None
    assert data.metrics is None


@pytest.mark.parametrize(
    "line",
    [
        "| kvasir_seg_polyp | polyp | 0.750 | 15 % | - | - |",
        "| int8 | 0.0 MB | 0.800 | 0.700 | 0.900 | 0.0100 | 150 ms |",
        "| fp32 | 0.0 MB | 0.810 | 0.710 | 0.910 | - | - |",
        "from huggingface_hub import hf_hub_download",
    ],
)
def test_card_shows_failures_and_what_quantization_costs(release_folder, line):
    assert line in model_card(Release.open(release_folder)).splitlines()


def test_card_names_its_repository_and_tag(release_folder):
    card = model_card(Release.open(release_folder), "me/mine")
    assert 'hf_hub_download("me/mine", "onnx/int8/detector.onnx", revision="v0.1.0")' in card
    assert 'from_release("me/mine@v0.1.0", precision="int8")' in card


def test_licence_of_a_part_from_elsewhere_is_carried(release_folder):
    licences = {"segmenter": {"license": "CC-BY-SA-4.0", "source": "wanglab/MedSAM2@main"}}
    made = write_manifest(release_folder, version="1.0.0", revision="abc", trained_on={}, licenses=licences)
    assert made.manifest["licenses"] == licences
    assert "The segmenter is under CC-BY-SA-4.0, as its source: wanglab/MedSAM2@main." in model_card(made)


def test_intervals_stand_in_brackets():
    part = {"macro": {"dice": 0.8, "dice_95": [0.771, 0.829], "iou": 0.7}, "sources": {}}
    table = figures_table({"figures": {"int8": part}})
    assert "| **mean over sources** | | | 0.800 (0.77 to 0.83) | 0.700 | - |" in table
    assert "In brackets: 95 % intervals, by patient." in table
