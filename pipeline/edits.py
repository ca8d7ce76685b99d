"""What a person may do to the regions that were found: one edit at a time, as JSON at the edge."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Literal

from pipeline.errors import InputError
from pipeline.geometry import LARGEST_COORDINATE

#: Action -> the fields that it needs, and those that it may have.
_FIELDS = {
    "add": (("box",), ("label",)),
    "box": (("region", "box"), ()),
    "click": (("region", "point"), ("inside",)),
    "relabel": (("region", "label"), ()),
    "delete": (("region",), ()),
}
_FORM = {
    "add": '{"action": "add", "box": [x, y, width, height], "label": "a class, or left out"}',
    "box": '{"action": "box", "region": 1, "box": [x, y, width, height]}',
    "click": '{"action": "click", "region": 1, "point": [x, y], "inside": true or false}',
    "relabel": '{"action": "relabel", "region": 1, "label": "a class"}',
    "delete": '{"action": "delete", "region": 1}',
}
#: Of one image. Each may run the decoder once.
_MOST_EDITS = 200
#: One for each edit, as JSON Schema: what an API says of its parameter.
EDIT_SCHEMA = {
    "type": "object",
    "properties": {
        "action": {"type": "string", "enum": list(_FIELDS)},
        "region": {"type": "integer", "description": "number of the region in the list, from 1"},
        "box": {"type": "array", "items": {"type": "number"}, "description": "[x, y, width, height] in pixels"},
        "point": {"type": "array", "items": {"type": "number"}, "description": "[x, y] in pixels"},
        "inside": {"type": "boolean", "description": "true: the point belongs to the region; false: it does not"},
        "label": {"type": "string", "description": "a class of the weights, or region"},
    },
    "required": ["action"],
}


@dataclass(frozen=True)
class Edit:
    """One correction.

    Attributes
    ----------
    action
        `add` a region by a box, give a region another `box`, `click` what belongs to it or not, `relabel`, `delete`.
    region
        Its number in the list as it is at that moment, from 1.
    box
        [x, y, width, height] in pixels of the image.
    point, inside
        [x, y] in pixels of the image, and whether it belongs to the region.
    label
        A class of the weights, or `region`.
    """

    action: Literal["add", "box", "click", "relabel", "delete"]
    region: int | None = None
    box: tuple[float, float, float, float] | None = None
    point: tuple[float, float] | None = None
    inside: bool | None = None
    label: str | None = None

    def to_json(self) -> dict:
        """The fields that this edit has; tuples become lists."""
        given = {name: value for name, value in asdict(self).items() if value is not None}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in given.items()}


def read_edits(given: object) -> tuple[Edit, ...]:
    """A JSON list of edits -> edits.

    Raises InputError for more than 200, and for one that is none, which is named by its number from 1.
    """
    if not isinstance(given, list | tuple):
        raise InputError("edits", f"{type(given).__name__}, not a list", f"a list such as [{_FORM['delete']}]")
    if len(given) > _MOST_EDITS:
        raise InputError("edits", f"{len(given)} of them", f"at most {_MOST_EDITS}")
    return tuple(_edit(number, fields) for number, fields in enumerate(given, start=1))


def _edit(number: int, fields: object) -> Edit:
    subject = f"edit {number}"
    action = fields.get("action") if isinstance(fields, dict) else None
    if not isinstance(action, str) or action not in _FIELDS:
        raise InputError(subject, f"action {repr(action)[:40]}", ", ".join(_FIELDS))
    needed, allowed = _FIELDS[action]
    fields = {name: value for name, value in fields.items() if value is not None and name != "action"}
    wrong = [name for name in fields if name not in needed + allowed or not _GOOD[name](fields[name])]
    wrong += [name for name in needed if name not in fields]
    if wrong:
        raise InputError(subject, f"{action} with a wrong or lacking {wrong[0][:40]!r}", _FORM[action])
    return Edit(action, **{name: _READ.get(name, lambda value: value)(value) for name, value in fields.items()})


def _numbers(value: object, count: int) -> bool:
    return (
        isinstance(value, list | tuple)
        and len(value) == count
        and all(isinstance(n, int | float) and not isinstance(n, bool) and abs(n) <= LARGEST_COORDINATE for n in value)
    )


_GOOD = {
    "region": lambda value: isinstance(value, int) and not isinstance(value, bool) and value >= 1,
    "box": lambda value: _numbers(value, 4) and value[2] > 0 and value[3] > 0,
    "point": lambda value: _numbers(value, 2),
    "inside": lambda value: isinstance(value, bool),
    "label": lambda value: isinstance(value, str),
}
_READ = {"box": lambda value: tuple(map(float, value)), "point": lambda value: tuple(map(float, value))}
