"""Labelled rows -> checkpoints and calibrations."""
