"""MedSAM2's memory: what was outlined in some frames conditions how other frames are looked at.

A frame of an object that nobody points at takes three steps:

    conditioned = memory.condition(embedding, bank, frame_index)
    decoded = segmenter.decode_conditioned(embedding, conditioned)
    memory.remember(bank, embedding, frame_index, decoded)

and a frame with boxes two: `segmenter.decode_prompts`, then `remember` with `prompted=True`. All embeddings of a bank
have to be of the same window of their frames: memory is laid over them place by place.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace

import numpy as np
import onnxruntime

from hub import Release
from pipeline.runtime import open_graph
from pipeline.segmenter import Decoded, Embedding

#: Unprompted frames whose memory is looked at, object pointers in all (SAM2.1's numbers), and prompted frames at most.
RECENT_FRAMES, POINTERS, PROMPTED_FRAMES = 6, 16, 4
_ATTENTION_INPUTS = ("embedding", "memories", "memory_age", "pointers", "pointer_age")
_ENCODER_INPUTS = ("embedding", "mask_logits", "mask_token", "object_score")


@dataclass(frozen=True, eq=False)
class FrameMemory:
    """What is kept of one frame.

    Attributes
    ----------
    memory : float32 (N, 64, S/16, S/16); None where only the pointers are kept
    pointers : float32 (N, 256)
    """

    frame_index: int
    memory: np.ndarray | None
    pointers: np.ndarray


class MemoryBank:
    """What is remembered of N objects that go through frames together; never more than a fixed number of frames.

    The memories of the prompted frames nearest to the last one, of the last `RECENT_FRAMES` others, and the pointers of
    a few frames more.
    """

    def __init__(self) -> None:
        self.prompted: list[FrameMemory] = []
        self.recent: deque[FrameMemory] = deque(maxlen=POINTERS - 1)

    def __len__(self) -> int:
        """Frames whose memory is kept."""
        return len(self.prompted) + sum(entry.memory is not None for entry in self.recent)

    def add(self, entry: FrameMemory, *, prompted: bool) -> None:
        """Keep a frame. It replaces what was kept of the same frame."""
        for kept in (self.prompted, self.recent):
            for old in [old for old in kept if old.frame_index == entry.frame_index]:
                kept.remove(old)
        if prompted:
            nearest = sorted(self.prompted, key=lambda old: abs(old.frame_index - entry.frame_index))
            self.prompted = [entry, *nearest[: PROMPTED_FRAMES - 1]]
            return
        self.recent.append(entry)
        with_memory = [old for old in self.recent if old.memory is not None]
        for old in with_memory[:-RECENT_FRAMES]:
            self.recent[self.recent.index(old)] = replace(old, memory=None)

    def only_prompted(self) -> MemoryBank:
        """A bank to start anew with from the prompted frames, such as in the other direction."""
        bank = MemoryBank()
        bank.prompted = list(self.prompted)
        return bank

    def seen_from(self, frame_index: int) -> tuple[list[tuple[int, FrameMemory]], list[tuple[int, FrameMemory]]]:
        """What frame `frame_index` looks back at, (age, entry) each: memories, whose age is 0 for prompted frames and
        the distance for others, and pointers, whose age is the distance."""
        distances = [(abs(frame_index - entry.frame_index), entry) for entry in self.recent]
        memories = [(0, entry) for entry in self.prompted]
        memories += [(age, e) for age, e in distances if e.memory is not None and 0 < age <= RECENT_FRAMES]
        pointers = [(abs(frame_index - entry.frame_index), entry) for entry in self.prompted]
        near = sorted((pair for pair in distances if 0 < pair[0] < POINTERS), key=lambda pair: pair[0])
        return memories, (pointers + near)[:POINTERS]


class Memory:
    """Memory attention and memory encoder of a release.

    Parameters
    ----------
    attention
        `embedding`, `memories`, `memory_age`, `pointers`, `pointer_age` -> `conditioned`.
    encoder
        `embedding`, `mask_logits`, `mask_token`, `object_score` -> `memory`, `pointer`.
    """

    def __init__(self, attention: onnxruntime.InferenceSession, encoder: onnxruntime.InferenceSession):
        self.attention, self.encoder = attention, encoder

    @classmethod
    def from_release(cls, release: Release, precision: str = "int8", threads: int | None = None) -> Memory | None:
        """None where the release has no memory. Raises as `open_graph` does."""
        if f"onnx/{precision}/memory_attention.onnx" not in release.manifest["files"]:
            return None
        attention, encoder = (
            open_graph(release, name, precision, threads, inputs=inputs, outputs=outputs)
            for name, inputs, outputs in (
                ("memory_attention", _ATTENTION_INPUTS, ["conditioned"]),
                ("memory_encoder", _ENCODER_INPUTS, ["memory", "pointer"]),
            )
        )
        return cls(attention, encoder)

    def condition(self, embedding: Embedding, bank: MemoryBank, frame_index: int) -> np.ndarray:
        """A frame as seen with what the bank holds: float32 (N, 256, S/16, S/16), for `Segmenter.decode_conditioned`.

        Ages are distances, so frames before and after are alike. One object is looked at a run, so that what it gives
        does not depend on the others. Raises ValueError for a bank without a prompted frame.
        """
        if not bank.prompted:
            raise ValueError("a bank without a prompted frame; remember one first")
        memories, pointers = bank.seen_from(frame_index)
        ages = {
            "memory_age": np.array([age for age, _ in memories], np.int64),
            "pointer_age": np.array([age for age, _ in pointers], np.float32),
        }
        rows = []
        for row in range(len(pointers[0][1].pointers)):
            given = {
                "embedding": embedding.features[0],
                "memories": np.stack([entry.memory[row] for _, entry in memories])[None],
                "pointers": np.stack([entry.pointers[row] for _, entry in pointers])[None],
            }
            rows.append(self.attention.run(None, given | ages)[0])
        return np.concatenate(rows)

    def remember(
        self, bank: MemoryBank, embedding: Embedding, frame_index: int, decoded: Decoded, *, prompted: bool = False
    ) -> None:
        """Put a frame into the bank, with the masks of all of the bank's objects in it.

        Where an object's score is not above 0, the mask is not believed: what is remembered is that it is not there.
        With `prompted` it is there, whatever the score. Raises ValueError for a decoder without mask tokens.
        """
        if decoded.mask_tokens is None:
            raise ValueError("no mask tokens; the release's decoder does not give them")
        scores = np.maximum(decoded.object_scores, 1) if prompted else decoded.object_scores
        rows = []
        for row in range(len(scores)):
            given = {
                "embedding": embedding.features[0],
                "mask_logits": decoded.mask_logits[row : row + 1],
                "mask_token": decoded.mask_tokens[row : row + 1],
                "object_score": scores[row : row + 1].astype(np.float32),
            }
            rows.append(self.encoder.run(None, given))
        memory, pointers = (np.concatenate(part) for part in zip(*rows, strict=True))
        bank.add(FrameMemory(frame_index, memory, pointers), prompted=prompted)
