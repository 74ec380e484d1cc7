"""Turn results and ground truth into figures, and judge by them.

changes.py     an earlier result and this one -> how many labels differ
comparison.py  systems tested on the same draws -> how good each is, and how certain that is
confidence.py  probabilities and truth -> calibration error, risk and coverage, the threshold for a precision
gates.py       a run's figures -> which gates it passes
metrics.py     results with ground truth -> accuracy, F1, confusion matrix
"""
