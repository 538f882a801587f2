"""The simulated weeks behind docs/analytics.md."""
