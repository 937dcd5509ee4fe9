"""Posters drawn from known factors, and the tiny models that read them: seewhy shown without a network."""
