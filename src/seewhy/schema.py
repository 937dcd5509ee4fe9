"""Column names and Arrow schemas of every table. Imports nothing of ours.

Three kinds of id, all 32 hexadecimal digits of XXH128:
    source id   hash of an image's URL: the key of IMAGES, known before anything is fetched
    image id    hash of an image's bytes: the key of CAPTIONS; equal pictures are captioned once; of an object that is
                handed over by its URI: hash of URI, generation and checksum. A video's is made in the same way
    item id     what a text belongs to: the image id, or the hash of the text where the manifest brings it

A manifest row is another thing: many rows may share an image. `row` is its position in the manifest, from 0.
"""

from collections import Counter
from collections.abc import Sequence

import pyarrow as pa

ID = "id"
ERROR_KIND = "error_kind"
REASON = "reason"
DETAIL = "detail"

FAILURE_FIELDS = [
    pa.field(ERROR_KIND, pa.string()),  # null: the row is ok; else one of failure.KINDS
    pa.field(REASON, pa.string()),
    pa.field(DETAIL, pa.string()),
]


def row_stage(*fields: pa.Field) -> pa.Schema:
    """The schema of a row stage's output: the key, the stage's own fields, then the three of a failure."""
    return pa.schema([pa.field(ID, pa.string(), nullable=False), *fields, *FAILURE_FIELDS])


IMAGES = row_stage(
    pa.field("source", pa.string()),  # the URL that was asked for
    pa.field("image_id", pa.string()),
    pa.field("image", pa.binary()),  # the bytes as they came; null for an object that a service reads itself
    pa.field("format", pa.string()),  # what the decoder found: JPEG, PNG, ...
    pa.field("width", pa.int32()),  # pixels, after EXIF orientation
    pa.field("height", pa.int32()),
    pa.field("fingerprint", pa.binary(16)),  # what near duplicates share, see near_duplicates
    pa.field("tries", pa.int32()),  # requests made, 1 or more
)

VIDEOS = row_stage(
    pa.field("source", pa.string()),
    pa.field("image_id", pa.string()),  # of the video's bytes, or of what names an object that was not read
    pa.field("video", pa.large_binary()),  # the bytes as they came; null for an object that a service reads itself
    pa.field("frame", pa.binary()),  # a JPEG of the frame in the middle, to be shown; null with the bytes
    pa.field("format", pa.string()),  # by the first bytes: MP4, WEBM, ...
    pa.field("width", pa.int32()),  # pixels, upright
    pa.field("height", pa.int32()),
    pa.field("seconds", pa.float64()),  # of an object that was not read: as its header says; null where none does
    pa.field("frames", pa.int32()),
    pa.field("audio", pa.bool_()),
    pa.field("fingerprint", pa.binary(16)),  # of that frame
    pa.field("tries", pa.int32()),
)

CAPTIONS = row_stage(
    pa.field("text", pa.string()),
    pa.field("finish_reason", pa.string()),  # stop, length, ... as the backend says
    pa.field("tokens_in", pa.int32()),
    pa.field("tokens_out", pa.int32()),
)

SPAN = pa.struct(
    [
        pa.field("text", pa.string()),
        pa.field("start", pa.int32()),  # characters into the item's text
        pa.field("end", pa.int32()),
        pa.field("values", pa.list_(pa.float32())),  # (K,) one Shapley value per model output
    ]
)

EXPLANATIONS = row_stage(
    pa.field("fold", pa.int32()),  # of the model that explained the row: the one that did not see it
    pa.field("base_values", pa.list_(pa.float32())),  # (K,) output for the fully masked text
    pa.field("outputs", pa.list_(pa.float32())),  # (K,) output for the text itself
    pa.field("residual", pa.float32()),  # max over K of |base + sum of values - output|
    pa.field("evaluations", pa.int32()),
    pa.field("tokens", pa.list_(SPAN)),
    pa.field("words", pa.list_(SPAN)),
    pa.field("phrases", pa.list_(SPAN)),
    pa.field("sentences", pa.list_(SPAN)),
)

MAPS = row_stage(
    pa.field("fold", pa.int32()),  # of the model that explained the image: the one that did not see it
    pa.field("outputs", pa.list_(pa.float32())),  # (K,) class probabilities, or (1,) the prediction
    pa.field("explained", pa.int32()),  # the output that the map explains
    pa.field("map", pa.binary()),  # height * width bytes, row by row, over the whole image; 255 stands for `scale`
    pa.field("height", pa.int32()),
    pa.field("width", pa.int32()),
    pa.field("scale", pa.float32()),  # the largest raw value; 0 where nothing speaks for the output
)

FAITHFULNESS = row_stage(
    pa.field("deletion", pa.float32()),  # area under the output as the hottest pixels go first; low is faithful
    pa.field("insertion", pa.float32()),  # area under the output as the hottest pixels come first; high is faithful
    pa.field("deletion_random", pa.float32()),  # the same by random maps of the same values, mean over several
    pa.field("insertion_random", pa.float32()),
    pa.field("randomised", pa.float32()),  # rank correlation with the map of a model whose head was drawn anew
)

SCORED = row_stage(
    pa.field("logits", pa.list_(pa.float32())),  # (T,) one a text, in the order of the study's texts
    pa.field("probabilities", pa.list_(pa.float32())),  # (T,) sigmoid of each logit; CLIP: softmax over the texts
)

REPLY = pa.struct(
    [
        pa.field("column", pa.string()),
        pa.field("turns", pa.int32()),  # earlier questions and answers that the model was reminded of
        pa.field("finish_reason", pa.string()),
        pa.field("tokens_in", pa.int32()),
        pa.field("tokens_out", pa.int32()),
        *FAILURE_FIELDS,  # null where there is an answer
    ]
)


_RESERVED = ("replies", ID, ERROR_KIND, REASON, DETAIL)


def check_columns(columns: Sequence[str]) -> None:
    """Raises ValueError where there is none, and for names that are blank, reserved, there twice (upper and lower case
    are the same, as they are in words) or that hold ``=``, which sets a column apart from its answer in a word."""
    if not columns:
        raise ValueError("there is nothing to ask: name questions or prompts")
    lowered = Counter(column.lower() for column in columns)
    for column in columns:
        if not column.strip():
            raise ValueError(f"the column {column!r} is blank")
        if column.lower() in _RESERVED:
            raise ValueError(f"the column {column!r} is one that every table has; take another name")
        if "=" in column:
            raise ValueError(f"the column {column!r} holds a =; take another name")
        if lowered[column.lower()] > 1:
            raise ValueError(f"the column {column!r} is there twice")


def answers(columns: Sequence[str]) -> pa.Schema:
    """One text column an answer, null where there is none; `replies` says of each, in their order, what came of it.

    A row is ok when all its answers are there.
    """
    return row_stage(*(pa.field(name, pa.string()) for name in columns), pa.field("replies", pa.list_(REPLY)))


TOKENS = row_stage(pa.field("words", pa.list_(pa.string())))  # in the order of the text, repeats kept

# Whole-table results: no failures, one row a thing.

PROBE = pa.schema(
    [
        pa.field("output", pa.string()),  # class, or the target's name
        pa.field("rank", pa.int32()),  # from 1, by weight, within the output; null: not put forward
        pa.field("feature", pa.string()),  # "word", or "score": how well a text of the study's `score` fits the image
        pa.field("word", pa.string()),  # or that text
        pa.field("weight", pa.float64()),  # of the sparse linear probe fitted to all texts; of a score by its deviation
        pa.field("hits", pa.int64()),  # texts of the class that hold the word; null for numbers
        pa.field("total", pa.int64()),  # texts that hold the word
        pa.field("base_rate", pa.float64()),  # share of the class among all texts
        pa.field("lift", pa.float64()),  # (hits / total) / base rate, with its Wilson interval
        pa.field("lift_low", pa.float64()),
        pa.field("lift_high", pa.float64()),
        pa.field("selection", pa.float64()),  # share of the subsamples whose probe gave the word a weight of that sign
        pa.field("held_out_hits", pa.int64()),  # of the texts that the weights were not fitted to
        pa.field("held_out_total", pa.int64()),
        pa.field("mean_with", pa.float64()),  # numbers: the target's mean over texts with the word, and without
        pa.field("mean_without", pa.float64()),
        pa.field("difference", pa.float64()),  # mean_with - mean_without, with its bootstrap interval
        pa.field("difference_low", pa.float64()),
        pa.field("difference_high", pa.float64()),
        pa.field(
            "score_in", pa.float64()
        ),  # scores and classes: mean logit over the items of the class, and the others
        pa.field("score_out", pa.float64()),
        pa.field("score_gap", pa.float64()),  # score_in - score_out, with its bootstrap interval
        pa.field("score_gap_low", pa.float64()),
        pa.field("score_gap_high", pa.float64()),
        pa.field("correlation", pa.float64()),  # scores and numbers: Spearman's of logit and target, with its interval
        pa.field("correlation_low", pa.float64()),
        pa.field("correlation_high", pa.float64()),
    ]
)

PREDICTIONS = pa.schema(
    [
        pa.field("row", pa.int64()),
        pa.field(ID, pa.string()),  # item id
        pa.field("fold", pa.int32()),
        pa.field("target", pa.float64()),  # regression: the number; classification: index into the classes
        pa.field("outputs", pa.list_(pa.float32())),  # regression: (1,) prediction; classification: (K,) probabilities
    ]
)

SCORES = pa.schema(
    [
        pa.field("model", pa.string()),  # mean, ridge_words, ... and the encoder
        pa.field("metric", pa.string()),  # rmse, mae, r2, spearman, accuracy, macro_f1
        pa.field("value", pa.float64()),
        pa.field("low", pa.float64()),  # bootstrap 95% interval
        pa.field("high", pa.float64()),
        pa.field("rows", pa.int64()),
    ]
)

WORDS = pa.schema(
    [
        pa.field("word", pa.string()),
        pa.field("output", pa.string()),  # class, or the target's name
        pa.field("mean_value", pa.float64()),  # mean over the items that hold the word of its summed Shapley value
        pa.field("mean_abs_value", pa.float64()),
        pa.field("low", pa.float64()),  # bootstrap 95% interval of mean_value, items resampled
        pa.field("high", pa.float64()),
        pa.field("count", pa.int64()),  # occurrences
        pa.field("items", pa.int64()),  # items that hold it
        pa.field("total", pa.int64()),  # items explained
    ]
)
