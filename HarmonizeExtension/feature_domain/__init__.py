"""Harmonization of features instead of images: the ComBat family and what comes before and after it."""
