"""Supervised baselines on CT scans reconstructed twice: Choe's residual CNN, Pix2Pix, GANai and STAN-CT."""
