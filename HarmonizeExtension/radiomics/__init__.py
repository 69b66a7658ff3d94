"""Radiomic features, equal to pyradiomics' in every definition, with numpy, scipy and SimpleITK alone."""
