"""A miniature data set for the evaluation's commands."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    """HC18's layout: two drawn heads in test, one image without any."""
    folder = tmp_path_factory.mktemp("data") / "hc18_mini"
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:270, :400]
    (folder / "images").mkdir(parents=True)
    (folder / "masks").mkdir()
    for number, radius in enumerate((90, 70, 0)):
        inside = (rows - 135) ** 2 / 0.6 + (columns - 200) ** 2 < radius**2
        pixels = rng.integers(0, 40, (270, 400), np.uint8) + inside * np.uint8(90)
        Image.fromarray(pixels).save(folder / "images" / f"00{number}_HC.png")
        Image.fromarray(inside).save(folder / "masks" / f"00{number}_HC.png")
    (folder / "splits.csv").write_text("exam,split\n000,test\n001,test\n002,test\n")
    return folder.parent
