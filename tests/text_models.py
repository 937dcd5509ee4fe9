"""Tokenizers of every kind and BERTs of random weights, small enough to be made where they are needed."""

from pathlib import Path

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import BertConfig, BertJapaneseTokenizer, BertModel, PreTrainedTokenizerFast, T5Tokenizer

CORPUS = [
    "The image is a movie poster with a dark and intense atmosphere, printed in white letters (bold).",
    "A family of four doesn't walk: it runs, hand-in-hand, across a grassy field. Nostalgic!",
    "夕暮れの海辺に、赤い傘を持つ女性が立っている。雰囲気は静かで、どこか寂しい。",
    "ملصق فيلم مظلم مع رجلين يصرخان",
    "Poster 🎬 with a 👩‍👩‍👧 and ❤️, naïve café; Привет мир",
]
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def wordpiece() -> PreTrainedTokenizerFast:
    core = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    core.normalizer = normalizers.BertNormalizer(lowercase=True)
    core.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    core.decoder = decoders.WordPiece()
    core.train_from_iterator(CORPUS, trainers.WordPieceTrainer(vocab_size=300, special_tokens=SPECIAL))
    ends = [(name, core.token_to_id(name)) for name in ("[CLS]", "[SEP]")]
    core.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ends)
    names = dict(zip(("pad", "unk", "cls", "sep", "mask"), SPECIAL, strict=True))
    return PreTrainedTokenizerFast(tokenizer_object=core, **{f"{name}_token": token for name, token in names.items()})


def bytelevel(*, masks: bool) -> PreTrainedTokenizerFast:
    """As RoBERTa has it: with <s>, </s> and <mask>; or as GPT-2: no special token but the end of text."""
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    special = ["<s>", "<pad>", "</s>", "<mask>"] if masks else ["<|endoftext|>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=special, initial_alphabet=alphabet)
    core.train_from_iterator(CORPUS, trainer)
    if not masks:
        return PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<|endoftext|>", bos_token="<|endoftext|>")
    core.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), trim_offsets=True)
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        bos_token="<s>",
        cls_token="<s>",
        eos_token="</s>",
        sep_token="</s>",
        pad_token="<pad>",
        mask_token=AddedToken("<mask>", lstrip=True),  # it takes in the space that shap puts before it
    )


def characters(folder: Path) -> BertJapaneseTokenizer:
    """A tokenizer in Python, without offsets."""
    known = sorted({letter for text in CORPUS for letter in text.lower() if not letter.isspace()})
    folder.joinpath("vocab.txt").write_text("\n".join(SPECIAL + known), encoding="utf-8")
    return BertJapaneseTokenizer(
        str(folder / "vocab.txt"), word_tokenizer_type="basic", subword_tokenizer_type="character"
    )


def sentencepiece() -> T5Tokenizer:
    pieces = sorted({letter for text in CORPUS for letter in text if not letter.isspace()})
    words = sorted({"▁" + word for text in CORPUS for word in text.split()})
    vocab = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -3.0)]
    vocab += [(piece, -6.0) for piece in pieces] + [(word, -4.0) for word in words]
    return T5Tokenizer(vocab=vocab, extra_ids=0)


class RandomReader(torch.nn.Module):
    """A BERT of random weights, wide enough apart that every token matters. In float64, so that two orders of
    padding agree to 1e-12 and near ties between nodes fall the same way here and in shap."""

    def __init__(self, *, vocabulary: int, outputs: int, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        config = BertConfig(
            vocab_size=vocabulary,
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=4,
            intermediate_size=64,
            max_position_embeddings=1024,
            initializer_range=0.3,
        )
        self.encoder = BertModel(config, add_pooling_layer=False)
        self.head = torch.nn.Linear(32, outputs)
        self.double().eval()

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        return self.head(self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state[:, 0])


def reader(tokenizer, *, outputs: int = 1, seed: int = 0) -> RandomReader:
    return RandomReader(vocabulary=len(tokenizer) + 8, outputs=outputs, seed=seed)
