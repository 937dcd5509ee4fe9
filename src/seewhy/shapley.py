"""Owen values of a text's tokens, for many texts at once.

The values are those of shap's PartitionExplainer behind ``shap.Explainer(f, tokenizer)``. For a model f and a text
of T tokens let f(S) be the output for the text with every token outside S masked, and let a binary tree join
neighbouring tokens into words, clauses and the whole text (shap's Text masker builds both). The walk starts at the
root with an empty context C and the value f(all) - f(none) to share. A node with children A and B, context C and
weight w passes on

    to A:  w/2 * [f(C + A) - f(C)]   and   w/2 * [f(C + A + B) - f(C + B)]
    to B:  w/2 * [f(C + B) - f(C)]   and   w/2 * [f(C + A + B) - f(C + A)]

four smaller problems of the same kind, each with its own context. Fully walked, that is Owen's value of the nested
coalitions; with one leaf level it is Shapley's value. At every step the shares add up to the parent's, so

    base value f(none) + sum of the values = output f(all)

at any budget. Under a budget the problem with the largest weighted change is opened first, and what stays closed is
spread over its tokens evenly. Which problems are open at the end depends on how many are opened at a time
(`row_batch_size`), also in shap: the same budget with another row batch gives slightly other values.

shap walks one text after the other, a handful of masked texts per model call. Here each text's walk is a generator
that asks for the outputs it needs next, and the walks of many texts advance together, so that the model sees large
batches of texts of similar length. What a text's walk asks for is not changed by its neighbours.

Papers: G. Owen, Values of games with a priori unions, 1977. L. S. Shapley, A value for n-person games, 1953.
S. Lundberg and S.-I. Lee, A unified approach to interpreting model predictions, NeurIPS 2017. The walk down a tree
under a budget is described in shap's documentation of the Partition explainer.
"""

import copy
import heapq
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import shap
import torch

Predict = Callable[[Sequence[str]], np.ndarray]
"""B texts -> (B, K) outputs. Each output must depend on its own text only, not on its neighbours in the list."""

TOKENS_PER_BATCH_CPU = 2048
TOKENS_PER_BATCH_GPU = 65536


@dataclass(frozen=True)
class Explained:
    """One text's values. T tokens as the tokenizer makes them, special tokens included; K model outputs.

    A special token such as [CLS] is never masked, so it has no value of its own. Its row is zero when the walk was
    finished and holds an even share of what a closed node kept when the budget ran out.
    """

    text: str
    segments: tuple[str, ...]  # (T,) the piece of text that each token stands for, spaces behind it included
    values: np.ndarray  # (T, K) in the model's output units
    base_values: np.ndarray  # (K,) output for the text with every token masked
    outputs: np.ndarray  # (K,) output for the text itself
    residual: float  # max over K of |base + sum of values - output|: rounding errors, unless something is broken
    evaluations: int  # masked texts asked for, counted as shap counts them: at most about max_evals
    clustering: np.ndarray  # (T - 1, 4) the token tree in scipy's linkage format
    node_values: np.ndarray  # (2 T - 1, K) what each node kept, before closed nodes are spread over their tokens


def text_masker(tokenizer: Any) -> shap.maskers.Text:
    """shap's masker of texts for a transformers tokenizer, for those without offsets too."""
    return shap.maskers.Text(tokenizer if getattr(tokenizer, "is_fast", True) else _WithoutOffsets(tokenizer))


class _WithoutOffsets:
    """shap asks every tokenizer for offsets and reads a NotImplementedError as "has none". The tokenizers written in
    Python raised it until transformers 5; since then they answer without offsets, which shap takes for a KeyError."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer

    def __call__(self, text: str, *, return_offsets_mapping: bool = False) -> Any:
        if return_offsets_mapping:
            raise NotImplementedError
        return self._tokenizer(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tokenizer, name)


class MaskedText:
    """One text under shap's Text masker: its tokens, its tree, and its masked strings in bulk."""

    def __init__(self, text: str, masker: shap.maskers.Text) -> None:
        self.text = text
        self._masker = copy.copy(masker)  # the masker remembers one text, and many take turns here
        self.tokens = len(masker.tokenizer(text)["input_ids"])
        self.segments: tuple[str, ...] = tuple(self._masker.data_transform(text)[0]) if self.tokens else ()
        self._fixed = self._masker.invariants(text)[0] if self.tokens else np.zeros(0, dtype=bool)
        # shap stores the pieces in an array of fixed-width strings, which drops NUL characters at their ends
        pieces = np.array(self.segments, dtype=str)
        self._pieces = pieces.astype(object)
        separator = getattr(masker.tokenizer, "sep_token", None)
        self._shown = np.zeros(self.tokens, dtype=bool) if separator is None else pieces == separator
        self._shown[: masker.keep_prefix] = True
        self._shown[self.tokens - masker.keep_suffix :] = True

    def clustering(self) -> np.ndarray:
        """(T - 1, 4) shap's tree. shap itself fails on texts of no token or one: their tree has no node."""
        return self._masker.clustering(self.text) if self.tokens > 1 else np.zeros((0, 4))

    def strings(self, masks: np.ndarray) -> list[str]:
        """(B, T) bool, True keeps the token -> B texts, each equal to what ``masker(mask, text)`` gives.

        A call of the masker is a loop over the tokens in Python, 0.1 ms for 200 tokens: with a GPU behind it more
        than the model's share of the time. Hence the join in bulk, with the masker's own pieces and settings.
        """
        hidden = ~(masks | self._shown)
        filler = np.full(self.tokens, f" {self._masker.mask_token}", dtype=object)
        parts = np.where(hidden, filler, self._pieces)
        if self._masker.collapse_mask_token:
            parts[:, 1:][hidden[:, 1:] & hidden[:, :-1]] = ""
        texts = ["".join(row) for row in parts.tolist()]
        if shap.utils.safe_isinstance(self._masker.tokenizer, SENTENCEPIECE):
            texts = [text.replace("▁", " ") for text in texts]
        return np.array([" ".join(text.split()) for text in texts], dtype=str).tolist()

    def repeats(self, masks: np.ndarray) -> np.ndarray:
        """(B, T) -> (B,) True where shap reuses the output before it: only tokens that it holds fixed differ.

        A separator written inside the text is such a token, and is masked all the same: an odd corner of shap, kept
        so that the values stay shap's.
        """
        same = np.zeros(len(masks), dtype=bool)
        same[1:] = ~((masks[1:] ^ masks[:-1]) & ~self._fixed).any(axis=1)
        return same


SENTENCEPIECE = [f"transformers.{name}Tokenizer" for name in ("Marian", "T5", "XLNet", "Albert")]


class _Problem(NamedTuple):
    """A node of the tree in a context: share `weight` * (`high` - `low`) among the node's tokens."""

    node: int
    weight: float
    context: np.ndarray  # (T,) bool, the tokens that are kept besides the node's
    low: np.ndarray  # (K,) output for the context alone
    high: np.ndarray  # (K,) output for the context with the node's tokens


class _Tree:
    """Children and token ranges of a linkage whose nodes all join neighbours."""

    def __init__(self, clustering: np.ndarray) -> None:
        self.leaves = len(clustering) + 1
        self.children = clustering[:, :2].astype(int).tolist()
        self.start = list(range(self.leaves))
        self.end = list(range(1, self.leaves + 1))
        for left, right in self.children:
            self.start.append(self.start[left])
            self.end.append(self.end[right])

    def with_node(self, context: np.ndarray, node: int) -> np.ndarray:
        """(T,) the context and the node's own tokens."""
        mask = context.copy()
        mask[self.start[node] : self.end[node]] = True
        return mask

    def spread(self, node_values: np.ndarray) -> np.ndarray:
        """(2 T - 1, K) -> (T, K): each inner node's value goes to its children by their number of tokens."""
        values = node_values.copy()
        for node in range(len(values) - 1, self.leaves - 1, -1):
            size = self.end[node] - self.start[node]
            for child in self.children[node - self.leaves]:
                values[child] += values[node] * (self.end[child] - self.start[child]) / size
        return values[: self.leaves]


Walk = Generator[list[str], np.ndarray, Explained]
"""Yields B masked texts, is sent their (B, K) outputs, returns the text's values."""


def _walk(masked: MaskedText, *, max_evals: int, row_batch_size: int) -> Walk:
    none = np.zeros(masked.tokens, dtype=bool)
    base, output = np.asarray((yield masked.strings(np.stack([none, ~none]))), dtype=np.float64)
    clustering = masked.clustering()
    tree = _Tree(clustering)
    node_values = np.zeros((2 * len(clustering) + 1, len(base)))
    queue: list[tuple[float, int, _Problem]] = [(0.0, 0, _Problem(len(node_values) - 1, 1.0, none, base, output))]
    evaluations, budget, put = 0, max_evals - 2, 1
    while queue:
        opened: list[_Problem] = []
        # each opened problem asks for two outputs, and shap checks the size of the batch only before it opens one
        while queue and 2 * len(opened) < row_batch_size and evaluations + 2 * len(opened) < budget:
            problem = heapq.heappop(queue)[2]
            if problem.node < tree.leaves:
                node_values[problem.node] += (problem.high - problem.low) * problem.weight
            else:
                opened.append(problem)
        if not opened:
            for _, _, problem in queue:
                node_values[problem.node] += (problem.high - problem.low) * problem.weight
            break
        pairs = [tree.children[problem.node - tree.leaves] for problem in opened]
        masks = np.stack(
            [tree.with_node(p.context, child) for p, pair in zip(opened, pairs, strict=True) for child in pair]
        )
        asked = np.asarray((yield masked.strings(masks)), dtype=np.float64)
        for i in np.flatnonzero(masked.repeats(masks)):
            asked[i] = asked[i - 1]
        evaluations += len(masks)
        for priority, child in _smaller(opened, pairs, masks, asked):
            heapq.heappush(queue, (priority, put, child))  # ties: first in, first out; shap draws lots
            put += 1
    values = tree.spread(node_values)[: masked.tokens]
    return Explained(
        text=masked.text,
        segments=masked.segments,
        values=values,
        base_values=base,
        outputs=output,
        residual=float(np.abs(base + values.sum(axis=0) - output).max()),
        evaluations=evaluations + 2,
        clustering=clustering,
        node_values=node_values,
    )


def _smaller(
    opened: list[_Problem], pairs: list[list[int]], masks: np.ndarray, asked: np.ndarray
) -> list[tuple[float, _Problem]]:
    """The four problems under each opened one, with their priorities: the largest weighted change comes first."""
    low = np.stack([problem.low for problem in opened])
    high = np.stack([problem.high for problem in opened])
    left, right = asked[0::2], asked[1::2]
    weights = np.array([problem.weight for problem in opened]) / 2
    ends = np.stack([(low, left), (low, right), (right, high), (left, high)])  # (4, 2, P, K)
    priorities = -np.abs(ends[:, 1] - ends[:, 0]).max(axis=-1) * weights  # (4, P)
    found = []
    for i, (problem, (a, b)) in enumerate(zip(opened, pairs, strict=True)):
        with_a, with_b = masks[2 * i], masks[2 * i + 1]
        contexts = ((a, problem.context), (b, problem.context), (a, with_b), (b, with_a))
        for kind, (node, context) in enumerate(contexts):
            child = _Problem(node, float(weights[i]), context, ends[kind, 0, i], ends[kind, 1, i])
            found.append((float(priorities[kind, i]), child))
    return found


def owen_values(
    texts: Sequence[str],
    *,
    predict: Predict,
    tokenizer: Any,
    max_evals: int = 500,
    row_batch_size: int = 5,
    rows_in_flight: int = 64,
) -> list[Explained]:
    """Owen values of every token of every text, equal to those of ``shap.Explainer(predict, tokenizer)(texts)``.

    The whole text is explained, also where `predict` cuts it short: tokens that the model never reads get values of
    zero, and cost budget and time. Cut the text first when that matters.

    Args:
        texts: N texts; empty ones and texts of one token too.
        predict: the model, see Predict.
        tokenizer: a transformers tokenizer; its mask token hides a token ("..." for a run of them if it has none).
        max_evals: masked texts to evaluate per text, at least 2; the walk stops at the first batch that reaches it.
        row_batch_size: masked texts that one text's walk asks for at a time, rounded up to an even number. shap
            takes 5 for texts. It changes the values under a budget, see the head of this file; not a speed setting.
        rows_in_flight: texts whose walks advance together. A speed setting: it does not change what is asked.

    Returns:
        N Explained, in the order of the texts.

    Raises:
        ValueError: a setting out of range, or outputs whose shape is not (B, K).
    """
    for name, value, least in (
        ("max_evals", max_evals, 2),
        ("row_batch_size", row_batch_size, 1),
        ("rows_in_flight", rows_in_flight, 1),
    ):
        if value < least:
            raise ValueError(f"{name}={value!r}: {least} or more is allowed")
    masker = text_masker(tokenizer)
    waiting = iter(enumerate(texts))
    walks: dict[int, tuple[Walk, list[str], dict[str, np.ndarray]]] = {}  # with what it asks for, and has been told
    found: dict[int, Explained] = {}
    while True:
        while len(walks) < rows_in_flight and (entry := next(waiting, None)) is not None:
            walk = _walk(MaskedText(entry[1], masker), max_evals=max_evals, row_batch_size=row_batch_size)
            walks[entry[0]] = (walk, next(walk), {})
        if not walks:
            return [found[i] for i in range(len(texts))]
        # one masked text in fourteen has been read already: masks that differ in special tokens only, shared contexts
        new = list(dict.fromkeys(one for _, asked, told in walks.values() for one in asked if one not in told))
        answers = dict(zip(new, _checked(predict(new), len(new)) if new else (), strict=True))
        for row, (walk, asked, told) in list(walks.items()):
            told.update({one: answers[one] for one in asked if one not in told})
            try:
                walks[row] = (walk, walk.send(np.stack([told[one] for one in asked])), told)
            except StopIteration as end:
                found[row] = end.value
                del walks[row]


def _checked(outputs: np.ndarray, texts: int) -> np.ndarray:
    outputs = np.asarray(outputs)
    if outputs.ndim != 2 or len(outputs) != texts:
        raise ValueError(f"predict gave an array of shape {outputs.shape} for {texts} texts: ({texts}, K) is allowed")
    return outputs


def text_predict(
    model: Callable[..., torch.Tensor],
    tokenizer: Any,
    *,
    device: str | torch.device = "cpu",
    max_length: int = 512,
    tokens_per_batch: int | None = None,
    softmax: bool = False,
    autocast: torch.dtype | None = None,
) -> Predict:
    """A Predict from a model: dynamic padding under an attention mask, batches of texts of similar length.

    Args:
        model: called with ``input_ids`` and ``attention_mask``, both (B, L) int64; gives a (B, K) tensor. In eval
            mode and on `device` already.
        tokenizer: of transformers. Texts are cut to `max_length` tokens, special tokens included.
        tokens_per_batch: B * L at most, padding included; one text is always let through. Default: by device.
        softmax: give probabilities in place of a classifier's logits. A single output is a number and stays one.
        autocast: compute type on a GPU, for instance torch.bfloat16. None keeps the model's own type, which is
            what agreement with shap to 1e-4 asks for.
    """
    target = torch.device(device)
    budget = tokens_per_batch or (TOKENS_PER_BATCH_CPU if target.type == "cpu" else TOKENS_PER_BATCH_GPU)
    # an unseen text of no token at all (byte-level tokenizers without special ones) becomes one token
    filler = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id or 0

    def forward(ids: list[list[int]]) -> torch.Tensor:
        longest = len(ids[0])
        padded = np.full((len(ids), longest), filler, dtype=np.int64)
        mask = np.zeros((len(ids), longest), dtype=np.int64)
        for i, row in enumerate(ids):
            padded[i, : len(row)] = row
            mask[i, : len(row)] = 1
        with torch.inference_mode(), torch.autocast(target.type, dtype=autocast, enabled=autocast is not None):
            out = model(
                input_ids=torch.from_numpy(padded).to(target, non_blocking=True),
                attention_mask=torch.from_numpy(mask).to(target, non_blocking=True),
            )
            out = out if autocast is None else out.float()
            return out.softmax(dim=-1) if softmax and out.shape[-1] > 1 else out

    def predict(texts: Sequence[str]) -> np.ndarray:
        ids = tokenizer(list(texts), truncation=True, max_length=max_length, return_attention_mask=False)["input_ids"]
        ids = [row or [filler] for row in ids]
        order = sorted(range(len(ids)), key=lambda i: -len(ids[i]))
        outputs, start = [], 0
        while start < len(order):
            size = max(1, budget // len(ids[order[start]]))
            outputs.append(forward([ids[i] for i in order[start : start + size]]))
            start += size
        joined = torch.cat(outputs).cpu().numpy()  # one wait for the device per call
        unsorted = np.empty_like(joined)
        unsorted[order] = joined
        return unsorted

    return predict


def to_shap(explained: Sequence[Explained], *, output_names: Sequence[str] | None = None) -> shap.Explanation:
    """What shap's explainer returns for the same texts, for ``shap.plots.text`` and its other plots.

    Args:
        explained: N texts, one or more, of the same model.
        output_names: (K,) names; shap's text plot asks for them when K is not 1.
    """
    return shap.Explanation(
        _packed([row.values for row in explained]),
        base_values=np.stack([row.base_values for row in explained]),
        data=tuple(np.array(row.segments, dtype=str) for row in explained),
        feature_names=[[segment.strip() for segment in row.segments] for row in explained],
        clustering=_packed([row.clustering for row in explained]),
        hierarchical_values=_packed([row.node_values for row in explained]),
        output_names=None if output_names is None else list(output_names),
    )


def _packed(arrays: list[np.ndarray]) -> np.ndarray:
    """One array of N where all shapes agree, else an array of N arrays."""
    if len({array.shape for array in arrays}) == 1:
        return np.stack(arrays)
    packed = np.empty(len(arrays), dtype=object)
    packed[:] = arrays
    return packed
