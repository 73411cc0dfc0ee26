"""The schema's history: alembic runs these when a store is made or was left by an older shoal."""
