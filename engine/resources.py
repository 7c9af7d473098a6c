"""Where the files that come with the program lie."""

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RESOURCES = ROOT / "resources"
MODELS = RESOURCES / "models"
