"""Attribution: which voxels a network's or a model's decision rests on, and whether the map deserves belief."""
