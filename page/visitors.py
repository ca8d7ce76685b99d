"""Whether who asked still waits for the answer.

Not by `Blocks.unload`, which keeps a connection open for each page, of which a browser has six for all of its tabs: the
connection that an answer comes through is open anyway, and gradio notes when it is closed.
"""

from __future__ import annotations

from collections.abc import Callable

from gradio.context import LocalContext
from starlette.requests import Request
from starlette.responses import Response

#: What servers note, but nobody receives, where a client closes the connection.
_CLOSED = 499


def has_gone() -> Callable[[], bool]:
    """Of the event that this thread works at: tells, from then on and in any thread, whether its visitor has left.

    That is one who closed the page or the connection, or cancelled. Outside of gradio's queue nobody ever has.
    """
    page, event_id = LocalContext.blocks.get(None), LocalContext.event_id.get(None)
    queue = getattr(page, "_queue", None)
    event = queue.event_ids_to_events.get(event_id) if queue is not None else None
    if event is None:
        return lambda: False
    return lambda: not event.alive or queue.event_ids_to_events.get(event_id) is not event


async def left(request: Request, error: Exception) -> Response:
    """Of a client that has closed the connection in the middle of an upload, which is no error of the page."""
    return Response(status_code=_CLOSED)
