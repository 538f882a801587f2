"""Access: API keys, and the log of administrative actions."""
