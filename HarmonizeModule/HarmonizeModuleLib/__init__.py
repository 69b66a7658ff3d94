"""What the module's file is made of: the scene's door, the display of results, the panel.

Installed, the engine lies beside this package and is simply imported. When a developer adds the module's folder to
Slicer, the engine is found at the root of the repository; this is the only place that touches sys.path.
"""

import importlib.util
import sys
from pathlib import Path

if importlib.util.find_spec("HarmonizeExtension") is None:
    sys.path.append(str(Path(__file__).resolve().parents[2]))
