"""Images that flipped, and an image of one's own."""
