"""The corruptions of CIFAR-10-C, CIFAR-100-C and ImageNet-C, written from their published code.

Hendrycks and Dietterich, Benchmarking Neural Network Robustness to Common Corruptions and Perturbations, ICLR 2019. The
published files were made in one run, with other libraries and another random generator: results on images that are
computed here are not comparable with results on them. frost needs photographs of frost.

A new corruption is one function with its severities in `functions.py`. This file needs no NumPy, so that a command line
is checked before the slow imports.
"""

SIZE = 32  # pixels, of the images that CIFAR's severities are published for
LARGE = 64  # pixels, from which on images get ImageNet's
FROST = "frost"
NUM_SEVERITIES = 5
CLEAN = "clean"  # in place of a corruption, at severity 0
WHERE = (
    "CIFAR-100-C.tar (2.9 GB) is at https://zenodo.org/records/3555552, CIFAR-10-C.tar at "
    "https://zenodo.org/records/2535967, Tiny-ImageNet-C's two archives at https://zenodo.org/records/2536630 and "
    "https://zenodo.org/records/8206060; unpack them, and give the folder that holds the corruptions"
)
