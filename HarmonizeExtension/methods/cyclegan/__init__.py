"""GAN-harmonization of PET: a three-dimensional CycleGAN between two centres (Haberl et al., EJNMMI 2024)."""
