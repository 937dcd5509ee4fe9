"""Loading pretrained models without their noise."""

from collections.abc import Iterator
from contextlib import contextmanager

from transformers.utils import logging

from seewhy.failure import Fatal


@contextmanager
def quiet() -> Iterator[None]:
    """Without transformers' bars and its report of surplus weights, which would break up the bar of the training."""
    shown, verbosity = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if shown:
            logging.enable_progress_bar()


@contextmanager
def safetensors_alone(source: str) -> Iterator[None]:
    """Says in plain words that weights could not be had in the one form that cannot run code."""
    try:
        yield
    except OSError as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0].partition(" Please do not set")[0]
        raise Fatal(f"cannot load the weights of {source}, which must be there as safetensors: {first}") from error
