"""The layout's rules: which package may use which, what inference runs without, what the repository may hold."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

#: Of the build environment alone. Inference, the page and the hub never import these.
BUILD_ONLY = [
    *("torch", "torchvision", "onnx", "optimum", "transformers", "safetensors"),
    *("sam2", "super_gradients", "data_gradients", "albumentations", "timm"),
    *("scipy", "cv2", "matplotlib", "pandas"),
]

BUILD_PACKAGES = ("pipeline.training", "pipeline.datasets")


def imports(path: Path, top_level_only: bool = False) -> Iterator[str]:
    """Dotted names that a source file imports, relative ones made absolute; `from a import b` gives a and a.b."""
    package = path.relative_to(ROOT).with_suffix("").parts[:-1]
    tree = ast.parse(path.read_text("utf-8"), str(path))
    for node in tree.body if top_level_only else ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join([*base, *([node.module] if node.module else [])])
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names)


def uses(path: Path, forbidden: tuple[str, ...] | list[str], top_level_only: bool = False) -> list[str]:
    names = imports(path, top_level_only)
    return [name for name in names if any(name == f or name.startswith(f + ".") for f in forbidden)]


def sources(*folders: str, without: tuple[str, ...] = ()) -> list[Path]:
    found = (path for folder in folders for path in sorted(ROOT.glob(folder)))
    return [path for path in found if not path.relative_to(ROOT).as_posix().startswith(without)]


HUB = sources("hub/**/*.py")
PIPELINE = sources("pipeline/**/*.py")
INFERENCE = sources("pipeline/**/*.py", without=("pipeline/training/", "pipeline/datasets/"))
COMMAND_LINE = sources("pipeline/cli.py", "pipeline/__main__.py")


def cases(paths: list[Path]) -> list:
    assert paths
    return [pytest.param(path, id=path.relative_to(ROOT).as_posix()) for path in paths]


@pytest.mark.parametrize("path", cases(HUB))
def test_hub_knows_nothing_of_models(path):
    assert uses(path, ["app", "page", "eval", "pipeline", "numpy", *BUILD_ONLY]) == []


@pytest.mark.parametrize("path", cases(HUB))
def test_hub_loads_the_client_and_onnxruntime_only_when_asked(path):
    assert uses(path, ["huggingface_hub", "onnxruntime"], top_level_only=True) == []


@pytest.mark.parametrize("path", cases(PIPELINE))
def test_pipeline_does_not_point_back(path):
    assert uses(path, ["app", "page", "eval", "gradio", "huggingface_hub"]) == []


@pytest.mark.parametrize("path", cases(INFERENCE))
def test_inference_needs_nothing_of_the_build_environment(path):
    # The command line offers the build's commands too, and loads them when one of them is asked for.
    command_line = path in COMMAND_LINE
    assert uses(path, [*BUILD_ONLY, *BUILD_PACKAGES], top_level_only=command_line) == []


@pytest.mark.parametrize("path", cases(sources("app.py", "page/**/*.py")))
def test_page_shows_what_the_pipeline_gives(path):
    assert uses(path, ["eval", "huggingface_hub", "onnxruntime", *BUILD_ONLY, *BUILD_PACKAGES]) == []


@pytest.mark.parametrize(
    "path", cases(sources("*.py", "hub/**/*.py", "page/**/*.py", "pipeline/**/*.py", "eval/**/*.py"))
)
def test_nothing_is_pickled(path):
    assert uses(path, ["pickle", "cPickle", "dill", "joblib", "shelve", "marshal"]) == []


def test_relative_imports_are_seen(tmp_path, monkeypatch):
    monkeypatch.setattr(f"{__name__}.ROOT", tmp_path)
    path = tmp_path / "pipeline" / "a.py"
    path.parent.mkdir()
    path.write_text("from .training import b\nfrom . import datasets\ndef f():\n    import torch.nn as nn\n")
    assert uses(path, BUILD_PACKAGES) == ["pipeline.training", "pipeline.training.b", "pipeline.datasets"]
    assert uses(path, BUILD_ONLY) == ["torch.nn"]
    assert uses(path, BUILD_ONLY, top_level_only=True) == []


BLOCKED_IMPORT = """
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {blocked!r}:
            raise ModuleNotFoundError(f"{{name}} is blocked", name=name)

sys.meta_path.insert(0, Blocker())
import {modules}
print(sorted(set({watched!r}) & set(sys.modules)))
"""


@pytest.mark.parametrize(
    ("modules", "watched"),
    [
        ("pipeline, app", ["torch"]),
        ("pipeline, pipeline.cli", ["gradio", "huggingface_hub", "pipeline.training", "pipeline.datasets"]),
        ("hub", ["numpy", "huggingface_hub", "onnxruntime", "pipeline"]),
    ],
)
def test_imports_without_the_build_environment(modules, watched):
    """`pandas` is gradio's own need, so it is not blocked here."""
    blocked = [name for name in BUILD_ONLY if name not in ("pandas", "matplotlib")]
    code = BLOCKED_IMPORT.format(blocked=blocked, modules=modules, watched=watched)
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert (done.stdout, done.returncode) == ("[]\n", 0), done.stderr


def tracked_files() -> list[Path]:
    done = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
    return [ROOT / name for name in done.stdout.split("\0") if name and (ROOT / name).is_file()]


PICKLES = r"pt|pth|pkl|pickle|bin|npy|npz|ckpt|joblib"
DATA = r"nii|gz|dcm|mha|nrrd|jpe?g|png|tiff?|bmp|gif|mp4|avi|csv|zip|tar|h5|parquet"

#: Where pictures are plots of figures.
PLOTS = [*ROOT.glob("hub/*/training"), ROOT / "eval/results/table", ROOT / "eval/results/int8"]


@pytest.mark.parametrize("kind", [PICKLES, DATA], ids=["pickles", "data"])
def test_repository_holds_no(kind):
    found = [path for path in tracked_files() if re.fullmatch(rf"\.({kind})", path.suffix.lower())]
    assert [path for path in found if not path.match("*.png") or path.parent not in PLOTS] == []


def test_no_file_is_too_large_for_a_git_host():
    assert [path for path in tracked_files() if path.stat().st_size > 95e6] == []
