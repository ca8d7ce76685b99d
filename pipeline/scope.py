"""Is this an image of a kind that the weights know, and of which one?"""

from __future__ import annotations

import numpy as np
import onnxruntime

from hub import Release
from pipeline.runtime import open_graph
from pipeline.segmenter import Embedding


class Scope:
    """Compares an image's embedding with those of the train images, see `pipeline.training.scope`.

    Parameters
    ----------
    session
        `high_res_1` -> distances float32 (K,), one a kind; of older releases that to the nearest kind alone.
    limit
        The distance from which on an image is strange.
    kinds
        Class ids whose images the distances belong to, in their order; none in older releases.
    ratio
        An image that is so many times as far from a kind as from the nearest one is not of that kind.
    """

    def __init__(
        self,
        session: onnxruntime.InferenceSession,
        limit: float,
        kinds: tuple[int, ...] = (),
        ratio: float = np.inf,
    ):
        self.session, self.limit, self.kinds, self.ratio = session, limit, np.array(kinds, np.int64), ratio

    @classmethod
    def from_release(cls, release: Release, precision: str = "int8", threads: int | None = None) -> Scope | None:
        """None where the release can't tell."""
        if "scope" not in release.config:
            return None
        settings = dict(release.config["scope"])
        ids = {entry["name"]: entry["id"] for entry in release.config["classes"]}
        kinds = tuple(ids[name] for name in settings.pop("kinds", ()))
        outputs = ["distances" if kinds else "distance"]
        session = open_graph(release, "scope", precision, threads, inputs=["high_res_1"], outputs=outputs)
        return cls(session, kinds=kinds, **settings)

    def distances(self, embedding: Embedding) -> np.ndarray:
        """How far the image is from each kind, float32 (K,); about 1 for an ordinary image of that kind."""
        return self.session.run(None, {"high_res_1": embedding.features[2]})[0]

    def is_outside(self, distances: np.ndarray) -> bool:
        """Whether it is strange: far from all kinds."""
        return bool(distances.min() > self.limit)

    def other_kinds(self, distances: np.ndarray) -> np.ndarray:
        """int64 (M,): ids of classes that are found in images of quite another kind than this one."""
        return self.kinds[distances[: len(self.kinds)] > self.ratio * distances.min()]
