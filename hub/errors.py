"""The one exception for weights that can't be used."""


class WeightsError(RuntimeError):
    """Weights that are missing, damaged or not allowed: what it is, what was found, what to do, in one line."""
