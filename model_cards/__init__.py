"""Templates of the model cards, and the cards of the architectures (written by `timm-lp-hub cards`)."""
