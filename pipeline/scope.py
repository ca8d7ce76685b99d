"""Is this an image of a kind that the weights know?"""

from __future__ import annotations

import onnxruntime

from hub import Release
from pipeline.runtime import open_graph
from pipeline.segmenter import Embedding


class Scope:
    """Compares an image's embedding with those of the train images, see `pipeline.training.scope`.

    Parameters
    ----------
    session
        `high_res_1` -> `distance` float32 (1,).
    limit
        The distance from which on an image is strange.
    """

    def __init__(self, session: onnxruntime.InferenceSession, limit: float):
        self.session, self.limit = session, limit

    @classmethod
    def from_release(cls, release: Release, precision: str = "int8", threads: int | None = None) -> Scope | None:
        """None where the release can't tell."""
        if "scope" not in release.config:
            return None
        session = open_graph(release, "scope", precision, threads, inputs=["high_res_1"], outputs=["distance"])
        return cls(session, release.config["scope"]["limit"])

    def distance(self, embedding: Embedding) -> float:
        """How far the image is from the nearest known kind; about 1 for an ordinary image of that kind."""
        return float(self.session.run(None, {"high_res_1": embedding.features[2]})[0][0])

    def is_outside(self, embedding: Embedding) -> bool:
        return self.distance(embedding) > self.limit
