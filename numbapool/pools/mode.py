"""Mode pooling: y is the most frequent element of the window; of equally frequent ones the least, as scipy.stats.mode and torch.mode.

The majority of labels, where an average would make up labels that are none: segmentation maps, land cover, voxels.  Padding never votes.
The index is that of the first element equal to y.  A NaN makes y one (the index is the last NaN's), as in max pooling.

Gradient: 1 for the element of the index.
"""
title = "mode"
family = "vote"
equation = "y = the most frequent xᵢ"
gradient = "1 for the first element equal to y"
source = "the majority; scipy.stats.mode"
forms = ("sliding", "adaptive", "global")
