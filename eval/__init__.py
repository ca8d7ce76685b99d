"""Figures: how good and how fast a release is, measured on data sets in their official layouts."""
