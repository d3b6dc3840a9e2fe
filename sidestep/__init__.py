"""One network evaluation per picture: the core of sidestep.

Importing this package imports neither torch nor an engine.
"""

__version__ = "0.1.0"
