"""A mixture of experts for fx."""
