"""What the corruptions are called, and how strong they are for 32x32 images."""

from typing import Any

SIZE = 32  # pixels, of the images that the severities are published for
NUM_SEVERITIES = 5

COMMON = (
    *("gaussian_noise", "shot_noise", "impulse_noise"),
    *("defocus_blur", "glass_blur", "motion_blur", "zoom_blur"),
    *("snow", "frost", "fog", "brightness"),
    *("contrast", "elastic_transform", "pixelate", "jpeg_compression"),
)
EXTRA = ("speckle_noise", "gaussian_blur", "spatter", "saturate")
CORRUPTIONS = (*COMMON, *EXTRA)

# The arguments of each corruption's function by severity, from 1 on. Lengths are in pixels, brightness and standard
# deviations of noise in fractions of white.
SEVERITIES: dict[str, tuple[tuple[Any, ...], ...]] = {
    "gaussian_noise": ((0.04,), (0.06,), (0.08,), (0.09,), (0.10,)),
    "shot_noise": ((500,), (250,), (100,), (75,), (50,)),
    "impulse_noise": ((0.01,), (0.02,), (0.03,), (0.05,), (0.07,)),
    "speckle_noise": ((0.06,), (0.10,), (0.12,), (0.16,), (0.20,)),
    "gaussian_blur": ((0.4,), (0.6,), (0.7,), (0.8,), (1.0,)),
    "defocus_blur": ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1.0, 0.2), (1.5, 0.1)),
    "glass_blur": ((0.05, 1), (0.25, 1), (0.4, 1), (0.25, 2), (0.4, 2)),
    "motion_blur": ((6, 1.0), (6, 1.5), (6, 2.0), (8, 2.0), (9, 2.5)),
    "zoom_blur": ((1.06,), (1.11,), (1.16,), (1.21,), (1.26,)),
    "snow": (
        (0.10, 0.2, 1.00, 0.60, 8, 3.0, 0.95),
        (0.10, 0.2, 1.00, 0.50, 10, 4.0, 0.90),
        (0.15, 0.3, 1.75, 0.55, 10, 4.0, 0.90),
        (0.25, 0.3, 2.25, 0.60, 12, 6.0, 0.85),
        (0.30, 0.3, 1.25, 0.65, 14, 12.0, 0.80),
    ),
    "fog": ((0.2, 3.0), (0.5, 3.0), (0.75, 2.5), (1.0, 2.0), (1.5, 1.75)),
    "spatter": (
        (0.62, 0.1, 0.7, 0.70, 0.5, "water"),
        (0.65, 0.1, 0.8, 0.70, 0.5, "water"),
        (0.65, 0.3, 1.0, 0.69, 0.5, "water"),
        (0.65, 0.1, 0.7, 0.69, 0.6, "mud"),
        (0.65, 0.1, 0.5, 0.68, 0.6, "mud"),
    ),
    "brightness": ((0.05,), (0.10,), (0.15,), (0.20,), (0.30,)),
    "contrast": ((0.75,), (0.50,), (0.40,), (0.30,), (0.15,)),
    "saturate": ((0.3, 0.0), (0.1, 0.0), (1.5, 0.0), (2.0, 0.1), (2.5, 0.2)),
    "elastic_transform": (
        (0.0, 0.0, 0.08 * SIZE),
        (0.05 * SIZE, 0.20 * SIZE, 0.07 * SIZE),
        (0.08 * SIZE, 0.06 * SIZE, 0.06 * SIZE),
        (0.10 * SIZE, 0.04 * SIZE, 0.05 * SIZE),
        (0.10 * SIZE, 0.03 * SIZE, 0.03 * SIZE),
    ),
    "pixelate": ((30,), (28,), (27,), (24,), (20,)),
    "jpeg_compression": ((80,), (65,), (58,), (50,), (40,)),
}
COMPUTED = tuple(name for name in CORRUPTIONS if name in SEVERITIES)
WHERE = (
    "CIFAR-100-C.tar (2.9 GB) is at https://zenodo.org/records/3555552, CIFAR-10-C.tar at "
    "https://zenodo.org/records/2535967, Tiny-ImageNet-C's two archives at https://zenodo.org/records/2536630 and "
    "https://zenodo.org/records/8206060; unpack them, and give the folder that holds the corruptions"
)
