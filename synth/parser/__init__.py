"""The shipped clothing parser: its network, training and export."""
