"""The model zoo's hub: models to verified folders and repositories, and the cards that describe them."""
