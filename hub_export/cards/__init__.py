"""What a card says: of a model, or of an architecture. It writes no files but the architectures' cards."""
