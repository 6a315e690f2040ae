"""The online service. It imports the Scorer and what that needs, and nothing that trains."""
