"""Motion capture, and the pose priors learned from it."""
