"""The images that components run in, named in this one place.

OPTIMAS_IMAGE and OPTIMAS_TRAIN_IMAGE replace them when the pipelines are compiled. A system's own dependencies belong into an image
made FROM the runtime image.
"""

import os
from pathlib import Path


def _version() -> str:
    """The version of the sources beside us, read without importing the package."""
    text = (Path(__file__).parents[1] / "optimas_core" / "_version.py").read_text(encoding="utf-8")
    return text.split('__version__ = "')[1].split('"')[0]


RUNTIME = os.environ.get("OPTIMAS_IMAGE", f"optimas-runtime:{_version()}")
TRAIN = os.environ.get("OPTIMAS_TRAIN_IMAGE", f"optimas-train:{_version()}")
