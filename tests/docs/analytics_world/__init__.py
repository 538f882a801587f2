"""The world that docs/analytics.md shows: simulated people, lived through the services themselves."""
