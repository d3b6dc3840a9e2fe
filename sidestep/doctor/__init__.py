"""`sidestep doctor`: what is right and wrong with this machine and its models.

A check is a module with `check()`, which yields findings. Checks need as little as they can, since
they are asked where something is missing: what a check cannot import is a finding too.
"""
