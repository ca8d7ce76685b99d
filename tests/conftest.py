"""The release that tests run on, and skips turned into failures where a machine is meant to run everything.

`AUTOMEDSEG_WEIGHTS` names other weights than the embedded ones: a folder, or user/repo[@revision].

`AUTOMEDSEG_REQUIRE` names markers, apart by commas (`training,data,browser`): a test of such a marker that skips fails.
Where `training` or `batch` is named, a file that skips as a whole fails too, because it does so before its markers are
known.
"""

from __future__ import annotations

import os

import pytest

from hub import Release, resolve

REQUIRED = {marker for marker in os.environ.get("AUTOMEDSEG_REQUIRE", "").split(",") if marker}


@pytest.fixture(scope="session")
def release() -> Release:
    """The embedded release: the trained networks that ship with the repository."""
    return resolve(os.environ.get("AUTOMEDSEG_WEIGHTS", "embedded"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if report.skipped and not hasattr(report, "wasxfail"):
        markers = sorted(REQUIRED & {marker.name for marker in item.iter_markers()})
        if markers:
            _fail(report, f"AUTOMEDSEG_REQUIRE={','.join(markers)}")
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector):
    report = yield
    whole_files = sorted(REQUIRED & {"training", "batch"})
    if report.skipped and whole_files:
        _fail(report, f"AUTOMEDSEG_REQUIRE={','.join(whole_files)}")
    return report


def _fail(report, why: str) -> None:
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
    report.outcome = "failed"
    report.longrepr = f"skipped, but {why} says it must run: {reason}"
