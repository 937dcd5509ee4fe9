"""A request's images as pixels, for backends that run a model themselves."""

from PIL import Image

from seewhy.failure import BAD_INPUT, Failure
from seewhy.images import BadImage, decode
from seewhy.vlm.base import Request, only_images


def opened(request: Request, most: int) -> list[Image.Image] | Failure:
    """The images upright and in RGB, one to `most` of them; or why the row is bad input."""
    images = only_images(request)
    if isinstance(images, Failure):
        return images
    if len(images) > most:
        return Failure(BAD_INPUT, "too_many_images", f"{len(images)} images; the model takes {most}")
    try:
        return [Image.fromarray(decode(image)) for image in images]
    except BadImage as error:
        return error.failure
