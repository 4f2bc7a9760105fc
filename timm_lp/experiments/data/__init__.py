"""Images: data sets by their names, which of their images are drawn, and their pixels."""
