"""The world that docs/guides/analytics.md shows: simulated people, lived through the services themselves."""
