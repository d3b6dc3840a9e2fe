"""Measure: ratios within one run, with the command and the machine beside every figure."""
