"""How fast models answer over HTTP, ours and what a user would pick instead, side by side."""
