"""What a manifest and a config must hold, and which names a release may list."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath
from reprlib import repr as _shown
from typing import Any

from hub.errors import WeightsError

#: The layout of config.json and manifest.json that this code reads.
SCHEMA = 1

#: Everything else is refused, pickles (.pt, .pth, .pkl, .bin, .npy, .ckpt) above all: loading one can run any code.
ALLOWED_SUFFIXES = (".json", ".onnx", ".safetensors", ".txt", ".md", ".png")

#: What may be known of a class's outlines, see `pipeline.shapes`.
SHAPES = ("filled", "convex", "ellipse")
#: And what its numbers may be.
_SHAPE_LIMITS = {"box_ellipse": (0, 10), "logit_offset": (-10, 10)}

#: Letters of a path inside a release, and of a class's name, at most.
_LONGEST_NAME, _LONGEST_LABEL = 200, 100

#: The id of a region that a person drew; no class may have it. 0 is the background.
REGION_ID = 255


def check_name(where: Path, name: str) -> None:
    """Raise WeightsError unless `name` is a plain relative path of an allowed kind of file."""
    parts = name.split("/")
    plain = len(name) <= _LONGEST_NAME and re.fullmatch(r"[\w.@+/ -]+", name, re.ASCII)
    if not plain or any(part.strip(". ") == "" for part in parts):
        raise WeightsError(f"{where}: the name {_shown(name)} is not a plain path inside the release.")
    if PurePosixPath(name).suffix.lower() not in ALLOWED_SUFFIXES:
        raise WeightsError(
            f"{where}: {_shown(name)} is not allowed in a release; expected {', '.join(ALLOWED_SUFFIXES)}. A pickle can"
            " run any code when it is loaded."
        )


def check_manifest(path: Path, manifest: dict) -> None:
    """Raise WeightsError unless `manifest` can be relied on."""
    _check_schema(path, manifest)
    _expect(path, "version", manifest.get("version"), str)
    files = _expect(path, "files", manifest.get("files"), dict)
    for name, entry in files.items():
        check_name(path, name)
        _expect(path, f"files of {name}", entry, dict)
        size, digest = entry.get("bytes"), entry.get("sha256")
        if not _is_int(size) or size < 0 or not isinstance(digest, str) or not re.fullmatch("[0-9a-f]{64}", digest):
            raise WeightsError(f"{path}: {name} has no valid bytes and sha256.")
    if "config.json" not in files:
        raise WeightsError(f"{path}: does not list config.json.")
    for part in ("precisions", "trained_on", "figures", "licenses"):
        _expect(path, part, manifest.get(part, {}), dict)
    for name, part in manifest.get("licenses", {}).items():
        for key in ("license", "source"):
            _expect(path, f"licenses.{name}.{key}", _expect(path, f"licenses.{name}", part, dict).get(key), str)


def check_config(path: Path, config: dict) -> None:
    """Raise WeightsError unless `config` describes the classes and both models."""
    _check_schema(path, config)
    names = _class_names(path, config)
    for model in ("detector", "segmenter"):
        part = _expect(path, model, config.get(model), dict)
        _expect(path, f"{model}.family", part.get("family"), str)
        if not _is_int(part.get("input_size")) or part["input_size"] < 1:
            raise WeightsError(f"{path}: {model}.input_size is {_shown(part.get('input_size'))}; expected pixels.")
        if part.get("resize") not in ("letterbox", "squash"):
            raise WeightsError(f"{path}: {model}.resize is {_shown(part.get('resize'))}; expected letterbox or squash.")
    factor = config["segmenter"].get("surroundings", 1)
    if not _is_number(factor, 1):
        raise WeightsError(f"{path}: segmenter.surroundings is {_shown(factor)}; expected 1 or more.")
    scores = {"detector.score_threshold": config["detector"].get("score_threshold")}
    by_class = {}
    for part in ("class_thresholds", "class_best_shares"):
        by_class |= _expect(path, f"detector.{part}", config["detector"].get(part, {}), dict)
        scores |= {f"detector.{part}.{name}": score for name, score in config["detector"].get(part, {}).items()}
    for name in by_class:
        _check_class(path, name, names)
    for name, score in scores.items():
        if not _is_number(score, 0, 1):
            raise WeightsError(f"{path}: {name} is {_shown(score)}; expected 0 to 1.")
    looks = _expect(path, "detector.looks", config["detector"].get("looks", [{"zoom": 1, "mirror": False}]), list)
    for look in looks:
        zoom, mirror = (look.get(key) for key in ("zoom", "mirror")) if isinstance(look, dict) else (None, None)
        if not _is_number(zoom, 0.1, 4) or mirror not in (0, 1):
            said = "expected a zoom from 0.1 to 4 and a mirror, true or false"
            raise WeightsError(f"{path}: detector.looks holds {_shown(look)}; {said}.")
    kinds = _check_scope(path, config["scope"]) if "scope" in config else []
    slicing = _expect(path, "slicing", config.get("slicing", {}), dict)
    shapes = _expect(path, "shapes", config.get("shapes", {}), dict)
    numbers = {part: _expect(path, part, config.get(part, {}), dict) for part in _SHAPE_LIMITS}
    for name in (*slicing, *kinds, *shapes, *(name for part in numbers.values() for name in part)):
        _check_class(path, name, names)
    for part, by_class in numbers.items():
        for name, number in by_class.items():
            if not _is_number(number, *_SHAPE_LIMITS[part]):
                least, most = _SHAPE_LIMITS[part]
                raise WeightsError(f"{path}: {part}.{name} is {_shown(number)}; expected {least} to {most}.")
    for name, shape in shapes.items():
        if shape not in SHAPES:
            raise WeightsError(f"{path}: shapes.{name} is {_shown(shape)}; expected {', '.join(SHAPES)}.")


def _check_class(path: Path, name: str, names: list[str]) -> None:
    if name not in names:
        raise WeightsError(f"{path}: {_shown(name)} is no class of this release; expected {', '.join(names)}.")


def _check_scope(path: Path, scope: dict) -> list[str]:
    """The classes that it names."""
    _expect(path, "scope", scope, dict)
    limit, ratio = scope.get("limit"), scope.get("ratio", 1)
    if not _is_number(limit, 0) or limit == 0:
        raise WeightsError(f"{path}: scope.limit is {_shown(limit)}; expected a distance above 0.")
    if not _is_number(ratio, 1):
        raise WeightsError(f"{path}: scope.ratio is {_shown(ratio)}; expected 1 or more.")
    kinds = _expect(path, "scope.kinds", scope["kinds"], list) if "kinds" in scope else []
    return [_expect(path, "scope.kinds", name, str) for name in kinds]


def _class_names(path: Path, config: dict) -> list[str]:
    classes = _expect(path, "classes", config.get("classes"), list)
    ids, names = [], []
    for entry in classes:
        _expect(path, "classes", entry, dict)
        if not _is_int(entry.get("id")) or not 0 < entry["id"] < REGION_ID:
            raise WeightsError(f"{path}: class id {_shown(entry.get('id'))}; expected 1 to {REGION_ID - 1}.")
        ids.append(entry["id"])
        names.append(_expect(path, "class name", entry.get("name"), str))
        if len(names[-1]) > _LONGEST_LABEL:
            raise WeightsError(f"{path}: class name is {_shown(names[-1])}; expected {_LONGEST_LABEL} letters at most.")
    if len(set(ids)) < len(ids) or len(set(names)) < len(names):
        raise WeightsError(f"{path}: two classes share an id or a name.")
    return names


def _check_schema(path: Path, content: dict) -> None:
    if content.get("schema") != SCHEMA:
        raise WeightsError(
            f"{path}: schema {_shown(content.get('schema'))}; this version reads schema {SCHEMA}. Update AutoMedSeg, or"
            " name another revision of the weights."
        )


def _expect(path: Path, name: str, value: Any, kind: type) -> Any:
    if not isinstance(value, kind) or (kind in (str, list) and not value):
        raise WeightsError(f"{path}: {name} is {_shown(value)}; expected a {kind.__name__} that is not empty.")
    return value


def _is_number(value: object, least: float, most: float = float("inf")) -> bool:
    """Whether it is a finite number, and neither smaller nor larger."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and least <= value <= most and value != float("inf")


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
