"""Turn results and ground truth into figures, and judge by them.

changes.py        an earlier result and this one -> how many labels differ, and examples
comparison.py     systems tested on the same draws -> how good each is, and how certain that is
confidence.py     a result's confidences, or probabilities, and truth -> reliability, calibration error, risk and coverage
distributions.py  a result -> how its labels, confidences, errors and embeddings are distributed
drift.py          two nights' distributions -> what has shifted by more than chance
gates.py          a run's figures -> which gates it passes
guarantee.py      confidences and which were right -> the threshold from which on a precision is promised
intervals.py      a share, a confusion matrix -> the 95 % interval of the share, of macro F1
metrics.py        results with ground truth -> accuracy, F1, confusion matrix
slices.py         results by the values of a manifest column -> errors, review and accuracy of each, worst first
"""
