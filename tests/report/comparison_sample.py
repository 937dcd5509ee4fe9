"""A comparison made up: two captioners of street photos, of numbers or of classes, with words in two languages."""

from typing import Any

from seewhy.compare import Alone, Answers, Estimate, PairedScore, Word
from seewhy.comparison import AnswerPair, Comparison, Example, ModelPair, Said, Setting, Spent, WordPair

CLASSES = ("浅草", "上野", "Kōtō")


def word(name: str, output: str = "rent", sign: int = 1, rank: int = 1) -> Word:
    return Word(output, name, sign, rank, sign / rank, 120 // rank, 590)


def example(name: str = "aa", closer: float = 1.25, **changed: Any) -> Example:
    """A row whose picture is called by `name`."""
    first = Said(name, "A bridge in the rain. " * 30, 4.25, "")
    second = Said(name, "橋の上の灯り", 5.5, "")
    return Example(**{"row": 1204, "target": 6.0, "first": first, "second": second, "closer": closer, **changed})


def class_example(name: str = "bb") -> Example:
    said = Said(name, "屋台が並ぶ", 0.125, "上野"), Said(name, "", 0.5, "浅草")
    return example(name, 0.375, target="浅草", first=said[0], second=said[1])


def text_model(gain: tuple[float, float | None, float | None] = (0.043, 0.021, 0.066), **changed: Any) -> ModelPair:
    r2 = PairedScore("r2", Estimate(0.612, 0.55, 0.67), Estimate(0.612 + gain[0], 0.6, 0.71), Estimate(*gain))
    rmse = PairedScore("rmse", Estimate(0.71, 0.65, 0.78), Estimate(0.702, 0.64, 0.77), Estimate(0.008, -0.02, 0.035))
    given = {
        "name": "text model",
        "first": "bert",
        "second": "bert",
        "first_beats": True,
        "second_beats": True,
        "rows": 590,
        "groups": 580,
        "only_first": 10,
        "only_second": 4,
        "other_target": 0,
        "moved": 466,
        "scores": [r2, rmse],
    }
    return ModelPair(**{**given, **changed})


def words(output: str = "rent", **changed: Any) -> WordPair:
    given = {
        "name": "words of the captions, counted",
        "value": "weight in the word model",
        "signs": True,
        "both": [
            (word("橋", output), word("橋", output, rank=2)),
            (word("rain", output, -1), word("rain", output, -1)),
        ],
        "turned": [(word("neon", output, rank=3), word("neon", output, -1, 2))],
        "only_first": [Alone(word("灯り", output, rank=2), 0, 585), Alone(word("tower", output, rank=4), 31, 585)],
        "only_second": [Alone(word("bridge", output), None, 590)],
    }
    return WordPair(**{**given, **changed})


def answers(**changed: Any) -> AnswerPair:
    given = {
        "name": "captions",
        "only_first": 2,
        "only_second": 0,
        "first": Answers(598, 590, 3, 4, 1, {"rejected/empty_answer": 3, "rejected/x": 4, "transient/http_429": 1}),
        "second": Answers(598, 585, 0, 13, 0, {"rejected/prompt_blocked_safety": 13}),
        "first_spent": Spent(597, 171_936, 23_880, None, "hf runs on your own machines: no price a token"),
        "second_spent": Spent(598, 600_000, 30_000, 0.255, "gemini-2.5-flash, list price as of 2026-10-07, on line"),
        "both_answered": 580,
        "neither": 3,
        "first_alone": 10,
        "second_alone": 5,
    }
    return AnswerPair(**{**given, **changed})


def comparison(classes: tuple[str, ...] = (), **changed: Any) -> Comparison:
    given = {
        "first": "films.yaml",
        "second": "films.yaml with caption.prompt=What stands out?",
        "title": "街の写真",
        "target": "district" if classes else "rent",
        "task": "classification" if classes else "regression",
        "classes": classes,
        "settings": [
            Setting("caption.prompt", "default", "何が目立ちますか"),
            Setting("caption.temperature", "0", "1"),
        ],
        "models": [text_model()],
        "words": [words(one) for one in classes] or [words()],
        "answers": [answers()],
        "left_out": ["image model: B has none"],
        "notes": [],
    }
    return Comparison(**{**given, **changed})
