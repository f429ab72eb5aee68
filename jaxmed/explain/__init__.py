"""What a model looked at: class-activation maps, and pictures of them."""
