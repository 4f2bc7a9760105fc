"""The corruptions of CIFAR-10-C and CIFAR-100-C, written from their published code.

Hendrycks and Dietterich, Benchmarking Neural Network Robustness to Common Corruptions and Perturbations, ICLR 2019. The
published files come of one run with other libraries and another generator, so that what is computed here is not
comparable with results on them. frost is not computed: it needs photographs of frost.
"""
