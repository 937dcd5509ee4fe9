"""The stage that cuts texts into words."""

from collections.abc import Sequence

import pyarrow as pa

from seewhy import schema
from seewhy.words.answers import answer_word
from seewhy.words.tokens import load_tokenizer


class TokeniseWords:
    """Row stage: `id`, `text` in, schema.TOKENS out, the same ids in the same order. A text without words, an empty one
    or a null among them, is no failure but an empty list.

    Where there is a column `answers`, lists of lines of `answers.answer_line`, the word of each line comes after those
    of the text.

    Args: those of tokens.load_tokenizer; tokens.tokenizer_identity tells what belongs into the table's name.

    Raises:
        ValueError: no such tokenizer, or an option that it does not take.
        Fatal: an extra is missing, or the user's dictionary cannot be read.
    """

    def __init__(
        self,
        *,
        tokenizer: str,
        form: str = "base",
        parts_of_speech: Sequence[str] | None = None,
        stop_words: Sequence[str] | None = None,
        user_dictionary: str | None = None,
    ) -> None:
        self._words = load_tokenizer(
            tokenizer,
            form=form,
            parts_of_speech=parts_of_speech,
            stop_words=stop_words,
            user_dictionary=user_dictionary,
        )

    def __call__(self, batch: pa.Table) -> pa.Table:
        words = [self._words(text or "") for text in batch.column("text").to_pylist()]
        if "answers" in batch.column_names:
            lines = batch.column("answers").to_pylist()
            words = [[*found, *map(answer_word, told)] for found, told in zip(words, lines, strict=True)]
        nothing = pa.nulls(len(words), pa.string())
        columns = [batch.column(schema.ID).cast(pa.string()), pa.array(words, pa.list_(pa.string()))]
        return pa.table([*columns, nothing, nothing, nothing], schema=schema.TOKENS)
