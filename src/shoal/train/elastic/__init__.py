"""Keeping a run going while its workers come and go: who takes part is decided here, and done here."""
