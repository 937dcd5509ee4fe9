"""An image's URL or path -> checked image bytes, or the reason why not."""

from seewhy.fetch.stage import VERSION, Fetch

__all__ = ["VERSION", "Fetch"]
