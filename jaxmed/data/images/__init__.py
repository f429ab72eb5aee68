"""Image files: discovery, decoding, resizing, and loading in memory or lazily."""
