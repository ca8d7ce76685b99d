"""The Hub's own client, loaded when it is asked for, and its errors in one sentence each."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from hub.errors import WeightsError

if TYPE_CHECKING:
    from huggingface_hub import HfApi

LOGIN = "log in with `hf auth login` or set HF_TOKEN"
#: Answers of the Hub, HTTP status codes.
UNAUTHORIZED, FORBIDDEN, CONFLICT, PRECONDITION_FAILED = 401, 403, 409, 412


def hub_api(asked: str) -> HfApi:
    """The client. Raises WeightsError, which starts with what was `asked` for, where it is not installed."""
    try:
        from huggingface_hub import HfApi
    except ImportError as error:
        raise WeightsError(f"{asked}: the Hub needs huggingface_hub; pip install huggingface_hub.") from error
    return HfApi(library_name="automedseg")


def need_token(asked: str) -> None:
    """Raise WeightsError where this machine holds no token, without which nothing can be published."""
    from huggingface_hub import get_token

    if not get_token():
        raise WeightsError(f"{asked}: publishing needs a token, and there is none here; {LOGIN}.")


@contextmanager
def plain_errors(asked: str, doing: str) -> Iterator[None]:
    """Turn what the client raises into a WeightsError, in one line that starts with what was `asked` for.

    `doing` says what could not be done, such as 'manifest.json could not be fetched'.
    """
    from huggingface_hub import errors

    try:
        yield
    except errors.GatedRepoError as error:
        said = f"the repository is gated; accept its terms on its page, then {LOGIN}."
        raise WeightsError(f"{asked}: {said}") from error
    except errors.RepositoryNotFoundError as error:
        raise WeightsError(f"{asked}: no such repository on the Hub, or it is private; {LOGIN}.") from error
    except errors.RevisionNotFoundError as error:
        raise WeightsError(f"{asked}: the repository has no such revision; name a branch, tag or commit.") from error
    except errors.OfflineModeIsEnabled as error:
        raise WeightsError(f"{asked}: HF_HUB_OFFLINE is set, and this needs the Hub; unset it.") from error
    except errors.HfHubHTTPError as error:
        raise WeightsError(f"{asked}: {_refusal(error, doing)}") from error
    # HTTPError is the HTTP client's own base class: a connection that breaks. RuntimeError wraps what an upload raised,
    # ValueError says that an answer or a name is malformed.
    except (errors.HTTPError, errors.XetDownloadError, OSError, RuntimeError, ValueError) as error:
        if isinstance(error, WeightsError):
            raise
        raise WeightsError(f"{asked}: {_broken(error, doing)}") from error


def status_of(error: BaseException | None) -> int | None:
    """The HTTP status that an error of the client was answered with; None where there was no answer."""
    return getattr(getattr(error, "response", None), "status_code", None)


def _refusal(error: Exception, doing: str) -> str:
    status = status_of(error)
    if status == UNAUTHORIZED:
        return f"the Hub does not accept the token; {LOGIN}."
    if status == FORBIDDEN:
        return f"{doing}, because the token may not do that; use one with write access to this repository."
    if status == PRECONDITION_FAILED:
        return "someone else published while this ran, so nothing was changed; look at what is there, then run again."
    return f"{doing} (the Hub answered {status}: {_first_line(getattr(error, 'server_message', None) or error)})."


def _broken(error: BaseException, doing: str) -> str:
    cause = error.__cause__ if type(error) is RuntimeError and error.__cause__ else error
    if status_of(cause):
        return _refusal(cause, doing)
    if isinstance(cause, OSError) and cause.errno == errno.ENOSPC:
        return f"{doing}: the disk is full; free some space, or let HF_HOME name another disk, then run again."
    again = "" if isinstance(cause, ValueError) else "; run again to go on"
    return f"{doing} ({_first_line(cause)}){again}."


def _first_line(error: object) -> str:
    return next(iter(str(error).strip().splitlines()), "") or type(error).__name__
