"""Small mice, and settings with which a network is trained on one in a moment."""

from dataclasses import replace

from timm_lp.experiments.brain.mmv1.data import Mouse
from timm_lp.experiments.brain.mmv1.synthetic import SETTINGS, synthetic_mouse

QUICK = replace(SETTINGS, epochs=2, channels=(2, 2, 2), hidden=4)


def small_mouse(number: int = 0) -> Mouse:
    return synthetic_mouse(number, segments=2, train=40, test=60, neurons=3)
