"""Which recordings of the Allen Brain Observatory are taken."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

# What the paper takes (A.10).
AREAS = ("VISp", "VISl", "VISal", "VISpm", "VISam")
DEPTH = (175.0, 275.0)
CRE_LINES = ("Cux2-CreERT2", "Emx1-IRES-Cre", "Slc17a7-IRES2-Cre")
WINDOW = 15  # frames, half a second


@dataclass(frozen=True)
class Recording:
    """What was recorded, and where.

    Attributes:
        path: The NWB file.
        area: The area, such as VISp.
        depth: Below the surface, micrometres.
        cre: The Cre line, such as Cux2-CreERT2.
        mouse: The mouse's name.
        scenes: Whether natural scenes were shown.
    """

    path: Path
    area: str
    depth: float
    cre: str
    mouse: str
    scenes: bool


@dataclass(frozen=True)
class Selection:
    """Which recordings to take.

    Attributes:
        areas: Names of the areas.
        depth: Least and greatest depth, micrometres, both included.
        cre: Cre lines, none for all.
    """

    areas: Sequence[str] = AREAS
    depth: tuple[float, float] = DEPTH
    cre: Sequence[str] = CRE_LINES

    def why_not(self, recording: Recording) -> str | None:
        """Return why a recording is left out, None where it is taken."""
        if not recording.scenes:
            return "no natural scenes"
        if recording.area not in self.areas:
            return "another area"
        if not self.depth[0] <= recording.depth <= self.depth[1]:
            return "another depth"
        if self.cre and recording.cre not in self.cre:
            return "another Cre line"
        return None
