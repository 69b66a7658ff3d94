"""Training: one loop for every system, its checkpoints, simulated samples and augmentation."""
