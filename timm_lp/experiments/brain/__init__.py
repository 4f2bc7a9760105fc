"""How like the visual cortex is a network? Representational similarity (section 6, Figure 6) and V1 prediction."""
