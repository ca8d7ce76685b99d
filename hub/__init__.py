"""Files, versions and checksums of the weights. Knows nothing of models."""

from hub.errors import WeightsError
from hub.release import Release
from hub.resolve import resolve

__all__ = ["Release", "WeightsError", "resolve"]
