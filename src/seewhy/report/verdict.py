"""Whether the model earned the right to be believed, and what the report's first lines say about it."""

from dataclasses import dataclass

LOWER_IS_BETTER = ("rmse", "mae", "log_loss", "calibration_error")

METRICS = {
    "r2": ("R²", "share of the differences that is predicted: 1 is perfect, 0 is no better than the average"),
    "rmse": ("RMSE", "typical size of a miss, large misses weighing more"),
    "mae": ("MAE", "average size of a miss"),
    "spearman": ("Spearman", "agreement in rank order: 1 is the same order, 0 is none"),
    "log_loss": ("Log loss", "how surprised the model is by the right class, sure misses weighing more"),
    "accuracy": ("Accuracy", "share put in the right class"),
    "calibration_error": ("Calibration error", "how far its certainty is from its share of right answers: 0 is honest"),
    "macro_f1": ("Macro F1", "precision and recall together, each class weighing the same"),
}

MODELS = {
    "mean": "Always the average",
    "majority": "Always the commonest class",
    "ridge_words": "Word counts (ridge)",
    "logistic_words": "Word counts (logistic)",
    "words": "Words alone",
    "words, targets permuted": "Words, targets shuffled",
    "words and scores": "Words and scores",
    "words and scores, targets permuted": "Words and scores, targets shuffled",
    "scores": "Scores alone",
    "scores, targets permuted": "Scores, targets shuffled",
    "logistic_colours": "Colours alone",
    "ridge_colours": "Colours alone",
}


def metric_name(metric: str) -> str:
    return METRICS[metric][0] if metric in METRICS else metric


def model_name(model: str) -> str:
    return MODELS.get(model, model)


@dataclass(frozen=True)
class Verdict:
    """The model beside the best baseline on rows that it did not see in training.

    Attributes:
        beats: True only if the interval of the gain lies above zero (the caller decides; the report only repeats it).
        metric: one of SCORES' metrics.
        value: gain of the model over the best baseline in `metric`, positive where the model is better.
        low, high: 95% interval of the gain from paired resampling, None where there is none.
        baseline: SCORES' name of the best baseline.
        model: SCORES' name of the model that the words come from.
    """

    beats: bool
    metric: str
    value: float
    low: float | None
    high: float | None
    baseline: str
    model: str


def first_lines(verdict: Verdict | None, target_name: str, noun: str) -> tuple[str, str]:
    """The report's headline, and the sentence under it that says how to take the words."""
    if verdict is None:
        return (
            f"Whether the model predicts {target_name} better than a baseline was not measured.",
            "The words below say what the model uses. They are not findings about " + target_name + ".",
        )
    if not verdict.beats:
        return (
            f"The model does not predict {target_name} better than its best baseline.",
            f"On {noun} that it had not seen, it is no better than “{model_name(verdict.baseline)}”. "
            f"The words below say what this model uses. They are not findings about {target_name}, "
            "and no decision should rest on them.",
        )
    return (
        f"What the {noun} {'say' if noun == 'texts' else 'show'} helps to predict {target_name}.",
        f"On {noun} that it had not seen, the model beats every baseline. The words below move its prediction.",
    )
