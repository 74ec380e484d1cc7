"""Turn results and ground truth into figures, and judge by them.

changes.py        an earlier result and this one -> how many labels differ, and examples
comparison.py     systems tested on the same draws -> how good each is, and how certain that is
confidence.py     a result's confidences, or probabilities, and truth -> reliability, calibration error, risk and coverage
conformal.py      probabilities of right labels -> the one from which on a label belongs to a prediction set
distributions.py  a result -> how its labels, confidences, errors and embeddings are distributed
drift.py          two nights' distributions -> what has shifted by more than chance
duplicates.py     sketches of embeddings -> groups of images that are nearly the same
gates.py          a run's figures -> which gates it passes
guarantee.py      confidences and which were right -> the threshold from which on a precision is promised
intervals.py      a share, a confusion matrix -> the 95 % interval of the share, of macro F1
label_errors.py   labelled rows -> those whose truth looks wrong
unknown.py        truth outside the labels -> how well such rows are told from the others
label_sets.py     prediction sets with ground truth -> how many hold the right label, and their size
metrics.py        results with ground truth -> accuracy, F1, confusion matrix
paired.py         two ways to tag the same rows -> how much better one is, and how certain that is
prompt_comparison.py  sets of prompts that tagged the same rows -> figures, confused pairs, the choice
significance.py   two samples -> the p-value of the test that they come from one distribution
slices.py         results by the values of a manifest column -> errors, review and accuracy of each, worst first
"""
