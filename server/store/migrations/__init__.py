"""How the tables came to be as they are, revision by revision."""
