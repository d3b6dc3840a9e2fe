"""One network evaluation per picture: the core of sidestep.

Importing this package imports neither torch nor an engine.
"""

import os

__version__ = "0.1.0"

# Read when ONNX Runtime is imported, which since 1.29 otherwise marks the machine with an
# identifier and tells its maker what is run.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
