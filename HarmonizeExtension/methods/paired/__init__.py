"""Supervised baselines on paired scans: a U-Net (DeepHarmony, Dewey 2019) and Pix2Pix (Isola 2017)."""
