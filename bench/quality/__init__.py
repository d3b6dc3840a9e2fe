"""How good pictures are: distances between sets of them, and how well they fit their prompts."""
