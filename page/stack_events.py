"""What happens in the tab of volumes and videos."""

from __future__ import annotations

import itertools
import shutil
import tempfile
from collections import OrderedDict
from collections.abc import Callable
from html import escape
from pathlib import Path

import gradio as gr

from hub import WeightsError
from page.costs import bars_html
from page.events import class_choices, pictures
from page.mesh import write_surface
from page.refusals import refused_html
from page.stack_upload import upload
from page.stacks import AXES, WINDOWS, Stacks, Stopped
from page.take_away import write_stack_take_away
from page.viewer import viewer_value
from page.visitors import has_gone
from page.words import Words
from pipeline.errors import InputError
from pipeline.examples import Example
from pipeline.stack import Stack
from pipeline.stack_overlay import contact_sheet
from pipeline.tracks import Tracking

_PROGRESS = gr.Progress()
#: Visitors whose last volume's surface can be looked at.
_KEPT_SURFACES = 100


class StackEvents:
    """The tab's own, which no client calls.

    Parameters
    ----------
    examples
        What the tab's gallery offers, in its order.
    keep
        Moves a file to where the page may give it to its visitor, and tells where.
    """

    def __init__(self, stacks: Stacks, examples: list[Example], keep: Callable[[Path], str]):
        self._stacks, self._examples, self._keep = stacks, examples, keep
        self._asked: dict[str, tuple] = {}
        self._surfaces: OrderedDict[str, Path] = OrderedDict()
        self._numbers = itertools.count(1)

    def show(self, files: list[str] | None, precision: str, classes: list[str], min_score: float, cut: str, window: str,
             request: gr.Request, progress: gr.Progress = _PROGRESS):  # fmt: skip
        """A new stack or other options -> status, viewer, montage, costs, files, and whether to cancel."""
        nothing, words = ({}, None, "", None), Words.of(request)
        if not files:
            yield stack_start_html(words), *nothing, gr.Button(visible=False)
            return
        yield f'<div class="start">{words("working")}</div>', *nothing, gr.Button(visible=True)

        def told(done: int, total: int, left: float | None) -> None:
            text = words("working") if left is None else words("time_left", seconds=max(1, round(left)))
            progress((done, total), desc=text, unit=words("steps"))

        visitor = request.session_hash
        self._surfaces.pop(visitor, None)
        self._asked[visitor] = files, precision, classes, min_score, cut, window
        try:
            with upload(files) as path, tempfile.TemporaryDirectory() as folder:
                progress(0, desc=words("reading"))
                question = self._stacks.question(path, precision, classes, min_score, AXES[cut], WINDOWS[window])
                stack, found = self._stacks.ask(question, visitor, told, has_gone())
                progress(1.0, desc=words("writing"))
                shown = self._shown(stack, found, words, Path(folder), visitor)
        except Stopped:
            shown = f'<div class="refused" role="status">{escape(words("stopped"))}</div>', *nothing
        except (InputError, WeightsError) as error:
            shown = refused_html(error, words), *nothing
        finally:
            self._asked.pop(visitor, None)
        yield *shown, gr.Button(visible=False)

    def stop(self, request: gr.Request) -> None:
        """The visitor cancels."""
        self._stacks.stop(request.session_hash)

    def replace(self, files: list[str] | None, precision: str, classes: list[str], min_score: float, cut: str,
                window: str, request: gr.Request) -> None:  # fmt: skip
        """Other choices: what runs with those before is of no use any more, and would keep the new ones waiting."""
        if self._asked.get(request.session_hash) != (files, precision, classes, min_score, cut, window):
            self._stacks.stop(request.session_hash)

    def surface(self, request: gr.Request) -> str | None:
        """The model of the visitor's last volume, by a name of its own each time: Model3D may have missed the last."""
        kept = self._surfaces.get(request.session_hash)
        if kept is None or not kept.exists():
            return None
        with tempfile.TemporaryDirectory() as folder:
            return self._keep(Path(shutil.copyfile(kept, Path(folder, f"surface_{next(self._numbers)}.glb"))))

    def begin(self, request: gr.Request):
        """A page that was opened -> classes, examples and status in the visitor's language."""
        words = Words.of(request)
        classes = gr.CheckboxGroup(choices=class_choices(self._stacks.answers, words))
        return classes, gr.Gallery(pictures(self._examples, words)), stack_start_html(words)

    def choose(self, event: gr.SelectData) -> list[str]:
        """An example -> its file."""
        return [str(self._examples[event.index].path)]

    def _shown(self, stack: Stack, found: Tracking, words: Words, folder: Path, visitor: str) -> tuple:
        view = viewer_value(stack, found, words, folder, self._keep)
        sheet = folder / "montage.png"
        contact_sheet(stack, found, mirrored=stack.kind == "volume").save(sheet)
        surface = folder / "surface.glb"
        if write_surface(surface, stack, found):
            self._surfaces[visitor] = Path(self._keep(surface))
            while len(self._surfaces) > _KEPT_SURFACES:
                self._surfaces.popitem(last=False)
        files = [self._keep(path) for path in write_stack_take_away(folder / "files", stack, found)]
        return (
            stack_status_html(stack, found, words),
            view,
            self._keep(sheet),
            stack_costs_html(found, words),
            files,
        )


def stack_start_html(words: Words) -> str:
    return f'<div class="start">{words("stack_start")}</div>'


def stack_status_html(stack: Stack, found: Tracking, words: Words) -> str:
    """What was found, how long it took, and what the reader noted."""
    keys = {0: "found_none", 1: "object_one"}
    parts = [words(keys.get(len(found.tracks), "object_many"), count=len(found.tracks))]
    seconds = f"{found.timings_ms['total'] / 1000:.1f}"
    parts.append(words("frames_took" if stack.kind == "video" else "slices_took", count=len(stack), seconds=seconds))
    notes = "".join(f'<div class="strange" role="note">{escape(note)}</div>' for note in stack.notes)
    return f"<p>{' '.join(parts)}</p>{notes}"


def stack_costs_html(found: Tracking, words: Words) -> str:
    """A bar a stage."""
    return bars_html(words("milliseconds"), {words(stage): ms for stage, ms in found.timings_ms.items()})
