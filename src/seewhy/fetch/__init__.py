"""An image's or a video's URL or path -> its checked bytes, or the reason why not."""

from seewhy.fetch.stage import VERSION, VIDEO, Fetch

__all__ = ["VERSION", "VIDEO", "Fetch"]
