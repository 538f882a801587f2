"""oO ML: chooses the tip to show next for each user, learns from rewards, and keeps all data in PostgreSQL."""
