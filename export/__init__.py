"""Compile one-step generators and prove that what was compiled is what was trained."""
