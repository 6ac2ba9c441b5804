"""What a head decides: calibration, threshold, sets of classes, drift.

All of it is fitted on the validation patients of training, kept in the head, and
applied unchanged to new patients.
"""
