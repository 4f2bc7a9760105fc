"""What masks look like: numbers, and pictures of them."""
