"""Templates of the model cards, and the cards of the architectures (written by `hub_export.architecture_cards`)."""
