"""AutoMedSeg: finds and outlines regions in medical images. Research software, not a medical device."""

from pipeline.auto_segmenter import AutoSegmenter
from pipeline.errors import InputError
from pipeline.results import Segmentation
from pipeline.scan import read_scan

__version__ = "0.1.0"

__all__ = ["AutoSegmenter", "InputError", "Segmentation", "__version__", "read_scan"]
