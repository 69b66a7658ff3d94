"""HarMOnAE: a style-blind auto-encoder (Fatania et al., Phys Imaging Radiat Oncol 2022)."""
