"""A day in the life: what `make demo` runs, with a real offline model and no account, key or network."""
