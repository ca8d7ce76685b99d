"""Turns: one at a time, in order, and long work lets others go between two of its steps."""

from __future__ import annotations

import threading
import time

import pytest

from page.turns import Turns


def start(turns: Turns, name: str, log: list[str], steps: int = 1) -> threading.Thread:
    def work() -> None:
        with turns.mine():
            for step in range(steps):
                log.append(name)
                time.sleep(0.01)
                if step < steps - 1:
                    turns.pass_on()

    thread = threading.Thread(target=work)
    thread.start()
    return thread


def wait_until(number: int, turns: Turns) -> None:
    """Until `number` wait."""
    for _ in range(2000):
        if len(turns._waiting) == number:
            return
        time.sleep(0.005)
    raise TimeoutError


def test_those_who_wait_come_in_the_order_of_asking():
    turns, log = Turns(), []
    with turns.mine():
        threads = []
        for number, name in enumerate("abc", start=1):
            threads.append(start(turns, name, log))
            wait_until(number, turns)
        log.append("first")
    for thread in threads:
        thread.join(timeout=30)
    assert log == ["first", "a", "b", "c"]


def test_long_work_goes_on_after_those_who_waited():
    turns, log = Turns(), []
    with turns.mine():
        long = start(turns, "long", log, steps=3)
        wait_until(1, turns)
        short = [start(turns, "short", log)]
        wait_until(2, turns)
    short[0].join(timeout=30)
    long.join(timeout=30)
    assert log == ["long", "short", "long", "long"]


def test_a_turn_ends_where_its_work_fails():
    turns = Turns()
    with pytest.raises(ZeroDivisionError), turns.mine():
        raise ZeroDivisionError
    turns.pass_on()
    with turns.mine():
        pass
