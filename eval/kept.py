"""Rows of other methods from an earlier table: what a new release's table need not measure again.

What nnU-Net makes of an image, or LiteMedSAM of a true box, depends on no release of ours. Such a row keeps its
figures, its time, and where it was measured. Its images' figures are gone, so its difference to ours has no interval
and is left out.
"""

from __future__ import annotations

import json
from pathlib import Path

from eval.row import REFERENCE
from eval.rows import ROWS
from pipeline.errors import InputError

#: Of a table: where, when and with what it was measured.
_ORIGIN = ("revision", "machine", "date")


def with_kept(results: dict, path: Path) -> dict:
    """results.json's content with those rows of an earlier results.json that it lacks; each tells its origin in `kept`.

    Raises InputError where the earlier table is of another split, or such a row of other images.
    """
    try:
        earlier = json.loads(path.read_text("utf-8"))
        rows = {name: row for name, row in earlier["rows"].items() if _is_others(name, row)}
        split, origin = earlier["split"], {name: earlier[name] for name in _ORIGIN}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(path, f"unreadable ({error!r})", "results.json of an earlier `table`") from None
    if split != results["split"]:
        raise InputError(path, f"a table of the {split} split", f"one of the {results['split']} split")
    joined = dict(results["rows"])
    for name, row in rows.items():
        if not {"figures", "absent"} & joined.get(name, {}).keys():
            _check_images(path, row, joined[REFERENCE])
            _drop_differences(row)
            joined[name] = row | {"kept": row.get("kept", origin)}
    order = [*ROWS, *sorted(joined.keys() - ROWS.keys())]
    return results | {"rows": {name: joined[name] for name in order if name in joined}}


def _is_others(name: str, row: dict) -> bool:
    """Whether a row has something to keep that does not depend on a release."""
    free = name.startswith("nnunet") or (name in ROWS and not ROWS[name].of_release)
    return "absent" in row or (free and "figures" in row)


def _check_images(path: Path, row: dict, reference: dict) -> None:
    for source, of in row.get("figures", {}).get("sources", {}).items():
        own = reference["figures"]["sources"].get(source, {}).get("images", 0)
        if of["images"] != own:
            found = f"{row['title']!r} has {of['images']} images of {source}"
            raise InputError(path, found, f"{own}, as this table has: the same --split, --limit and --sources")


def _drop_differences(row: dict) -> None:
    if "figures" in row:
        for of in (row["figures"], *row["figures"]["sources"].values()):
            of["less_than_reference"] = None
