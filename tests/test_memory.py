"""What a bank keeps and shows; the networks behind it are tested where they can be made: tests/training."""

from __future__ import annotations

import numpy as np
import pytest

from hub import Release
from pipeline.memory import FrameMemory, Memory, MemoryBank
from pipeline.segmenter import Decoded, Embedding


def frame(index: int) -> FrameMemory:
    return FrameMemory(index, np.full((2, 64, 4, 4), index, np.float32), np.full((2, 256), index, np.float32))


def filled(prompted: list[int], others: list[int]) -> MemoryBank:
    bank = MemoryBank()
    for index in prompted:
        bank.add(frame(index), prompted=True)
    for index in others:
        bank.add(frame(index), prompted=False)
    return bank


def shown(bank: MemoryBank, index: int) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """[(age, frame)] of memories and of pointers."""
    return tuple([(age, entry.frame_index) for age, entry in part] for part in bank.seen_from(index))


@pytest.mark.parametrize(
    ("prompted", "others", "index", "memories", "pointers"),
    [
        pytest.param([5], [], 6, [(0, 5)], [(1, 5)], id="right after the prompt"),
        pytest.param([5], [6, 7], 8, [(0, 5), (2, 6), (1, 7)], [(3, 5), (1, 7), (2, 6)], id="forwards"),
        pytest.param([5], [4, 3], 2, [(0, 5), (2, 4), (1, 3)], [(3, 5), (1, 3), (2, 4)], id="backwards"),
        pytest.param([5], [6, 7], 7, [(0, 5), (1, 6)], [(2, 5), (1, 6)], id="a frame does not look at itself"),
        pytest.param([0, 9], [8], 7, [(0, 9), (0, 0), (1, 8)], [(2, 9), (7, 0), (1, 8)], id="two prompts"),
    ],
)
def test_what_a_frame_looks_back_at(prompted, others, index, memories, pointers):
    assert shown(filled(prompted, others), index) == (memories, pointers)


def test_only_the_last_six_memories_and_sixteen_pointers_stay():
    bank = filled([0], list(range(1, 31)))
    memories, pointers = shown(bank, 31)
    assert memories == [(0, 0), *[(31 - index, index) for index in range(25, 31)]]
    assert pointers == [(31, 0), *[(31 - index, index) for index in range(30, 15, -1)]]
    assert len(bank) == 7
    assert len(bank.recent) == 15


def test_the_prompted_frames_nearest_to_the_last_one_stay():
    assert sorted(entry.frame_index for entry in filled([0, 40, 10, 20, 30, 25], []).prompted) == [20, 25, 30, 40]


def test_a_frame_that_is_remembered_again_replaces_itself():
    bank = filled([3], [4, 5, 4])
    assert [entry.frame_index for entry in bank.recent] == [5, 4]
    bank.add(frame(5), prompted=True)
    assert [entry.frame_index for entry in bank.prompted] == [5, 3]
    assert [entry.frame_index for entry in bank.recent] == [4]


def test_the_other_way_starts_from_the_prompts_alone():
    bank = filled([3], [4, 5])
    other = bank.only_prompted()
    other.add(frame(2), prompted=False)
    assert shown(other, 1) == ([(0, 3), (1, 2)], [(2, 3), (1, 2)])
    assert len(bank) == 3


def test_a_release_without_memory_has_none(release: Release):
    without = {name: entry for name, entry in release.manifest["files"].items() if "memory" not in name}
    plain = Release(release.folder, release.version, release.config, {**release.manifest, "files": without}, "")
    assert Memory.from_release(plain) is None


def test_what_can_not_be_remembered_or_looked_at_is_said():
    memory, embedding = Memory(None, None), Embedding((), None)
    with pytest.raises(ValueError, match="without a prompted frame"):
        memory.condition(embedding, MemoryBank(), 1)
    none = np.zeros(0, np.float32)
    with pytest.raises(ValueError, match="no mask tokens"):
        memory.remember(MemoryBank(), embedding, 0, Decoded(np.zeros((0, 4, 4), np.float32), none, none))
