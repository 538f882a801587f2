"""The program of `make demo`: simulated weeks with a real offline model and no account, key or network."""
