"""The audit log: who did what, in a chain that nobody can change unseen. AUDIT.md has the bytes."""
