"""The language model: requests to the chat-completions gateway, its answers and failures, and the tips in them.

Never called inside a transaction.
"""
