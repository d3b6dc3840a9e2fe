"""The stages of `sidestep run`, from a teacher to a model that serves."""
