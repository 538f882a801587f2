"""The simulated weeks behind docs/guides/analytics.md."""
