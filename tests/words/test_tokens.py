"""Words of known sentences; the rules that choose them; what a tokenizer tells of itself."""

import importlib.util
import json
import sys

import pytest

from seewhy.failure import Fatal
from seewhy.words.japanese import keeps
from seewhy.words.tokens import (
    IDENTITIES,
    LOADERS,
    choose_tokenizer,
    load_tokenizer,
    sentence_with,
    tokenizer_identity,
)

STREET = "新宿のビル群に面した路地で、２匹の犬が食べられていない。大きな看板のある低層住宅が見える。"
EVERYTHING = ["*", "-記号"]

has_sudachi = pytest.mark.skipif(importlib.util.find_spec("sudachipy") is None, reason="the extra sudachi is missing")


def test_janome_keeps_words_with_a_content_by_their_base_forms():
    found = load_tokenizer("janome")(STREET)
    assert found == [
        *["新宿", "ビル", "群", "面す", "路地", "犬", "食べる"],
        *["大きな", "看板", "低層", "住宅", "見える"],
    ]


def test_the_articles_surface_forms():
    content = load_tokenizer("janome", form="surface")(STREET)
    assert [word for word in content if word in ("面し", "食べ", "見える")] == ["面し", "食べ", "見える"]
    every = load_tokenizer("janome", form="surface", parts_of_speech=EVERYTHING, stop_words=[])(STREET)
    assert {"面し", "られ", "ない", "群", "2", "匹"} <= set(every)
    assert not {"、", "。"} & set(every)
    assert "".join(every) == "新宿のビル群に面した路地で2匹の犬が食べられていない大きな看板のある低層住宅が見える"


@pytest.mark.parametrize(
    ("kinds", "kept"),
    [
        (["名詞"], ["新宿", "ビル", "群", "路地", "2", "匹", "犬", "看板", "低層", "住宅"]),
        (["名詞,一般"], ["ビル", "路地", "犬", "看板", "低層", "住宅"]),
        (["名詞", "-名詞,接尾", "名詞,接尾,助数詞"], ["新宿", "ビル", "路地", "2", "匹", "犬", "看板", "低層", "住宅"]),
        (["連体詞"], ["大きな"]),
        (["記号"], []),  # marks are no words, whoever asks for them
    ],
)
def test_parts_of_speech(kinds, kept):
    assert load_tokenizer("janome", parts_of_speech=kinds)(STREET) == kept


def test_of_the_rules_that_fit_the_longest_decides():
    rules = ["名詞", "-名詞,接尾", "名詞,接尾,地域", "-*"]
    assert keeps("名詞,一般,*,*", rules)
    assert not keeps("名詞,接尾,一般,*", rules)
    assert keeps("名詞,接尾,地域,*", rules)
    assert not keeps("動詞,自立,*,*", rules)
    assert keeps("動詞,自立,*,*", ["*"])
    assert not keeps("名詞句,一般,*,*", ["名詞"])  # a whole part, not its first characters
    assert not keeps("動詞,自立,*,*", ["名詞"])


def test_stop_words_are_named_in_either_form():
    text = "犬が路地を走っている"
    assert load_tokenizer("janome")(text) == ["犬", "路地", "走る"]
    assert load_tokenizer("janome", stop_words=["走っ", "路地"])(text) == ["犬"]
    assert load_tokenizer("janome", form="surface", stop_words=["走る"])(text) == ["犬", "路地"]
    assert load_tokenizer("janome", parts_of_speech=["動詞"], stop_words=[])(text) == ["走る", "いる"]
    english = load_tokenizer("english", stop_words=["Dog"])
    assert english("Two dogs are running") == ["two", "be", "run"]


def test_width_and_case_of_letters_do_not_matter():
    janome = load_tokenizer("janome")
    assert janome("ＣＤとﾋﾞﾙ") == janome("CDとビル") == ["cd", "ビル"]
    assert load_tokenizer("words")("ＣＤ Häuser") == ["cd", "häuser"]


def test_a_dictionary_of_ones_own(tmp_path):
    text = "東京スカイツリーとＡＢＣ市場へ行く"
    assert "東京スカイツリー" not in load_tokenizer("janome")(text)
    simple = tmp_path / "own.csv"
    simple.write_text(
        "\ufeff東京スカイツリー,カスタム名詞,トウキョウスカイツリー\n\nＡＢＣ市場,カスタム名詞,エービーシー\n", "utf-8"
    )
    assert load_tokenizer("janome", user_dictionary=str(simple))(text) == ["東京スカイツリー", "abc市場", "行く"]
    simple.write_text("東京スカイツリー,名詞,トウキョウ，スカイツリー\n", "utf-8")  # a wide comma parts no columns
    assert load_tokenizer("janome", user_dictionary=str(simple))(text)[0] == "東京スカイツリー"
    full = tmp_path / "full"  # whatever its ending
    full.write_text("スカイツリー,1288,1288,-9000,名詞,固有名詞,一般,*,*,*,塔,トウ,トウ\n", "utf-8")
    assert load_tokenizer("janome", user_dictionary=str(full))(text)[:2] == ["東京", "塔"]


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("塔,名詞\n", "line 1: '塔,名詞' has 2 columns"),
        ("塔,名詞,トウ\n\n橋,名詞\n", "line 3: '橋,名詞' has 2 columns"),
        ("塔,a,b,c,名詞,固有名詞,一般,*,*,*,塔,トウ,トウ", "line 1: '塔,a,b,c"),
        (" \n", "holds no words"),
    ],
)
def test_a_dictionary_that_is_none_is_named(tmp_path, content, complaint):
    path = tmp_path / "own.csv"
    path.write_text(content, "utf-8")
    for use in (load_tokenizer, tokenizer_identity):
        with pytest.raises(Fatal, match=complaint):
            use("janome", user_dictionary=str(path))
    with pytest.raises(Fatal, match="cannot be read"):
        load_tokenizer("janome", user_dictionary=str(tmp_path / "missing.csv"))


def test_english():
    text = "A man's well-lit photos; two WOMEN wearing red hats aren't here, no children ran by at 10:30."
    base = ["man", "well-lit", "photo", "two", "woman", "wear", "red", "hat", "aren't", "no", "child", "run", "10:30"]
    assert load_tokenizer("english")(text) == base
    surface = load_tokenizer("english", form="surface")(text)
    assert surface[:7] == ["man", "well-lit", "photos", "two", "women", "wearing", "red"]


def test_any_other_language():
    words = load_tokenizer("words", stop_words=["DER"])
    assert words("Die Häuser der Stadt, 电影!") == ["die", "häuser", "stadt", "电", "影"]


@has_sudachi
def test_sudachi_follows_the_same_rules():
    found = load_tokenizer("sudachi")(STREET)
    assert found == [
        *["新宿", "ビル", "群", "面する", "路地", "犬", "食べる"],
        *["大きな", "看板", "低層", "住宅", "見える"],
    ]
    every = load_tokenizer("sudachi", form="surface", parts_of_speech=["*"], stop_words=[])(STREET)
    assert {"面し", "られ", "ない"} <= set(every)
    assert "。" not in every


@has_sudachi
@pytest.mark.parametrize("mark", ["。", ""])
def test_sudachi_takes_texts_of_any_length(mark):
    text = f"広い空と低い建物{mark}" * 5000  # 49,149 bytes are what it takes at once
    found = load_tokenizer("sudachi")(text)
    assert abs(found.count("建物") - 5000) <= 4  # where no sentence ends, a cut may go through a word
    if mark:
        assert found == ["広い", "空", "低い", "建物"] * 5000


def test_a_missing_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "sudachipy", None)
    with pytest.raises(Fatal, match=r"seewhy\[sudachi\]"):
        load_tokenizer("sudachi")


@pytest.mark.parametrize("name", [name for name in LOADERS if name != "sudachi"])
def test_texts_without_words_have_none(name):
    tokenize = load_tokenizer(name)
    assert [tokenize(text) for text in ("", " \n", "。、!", "🎬")] == [[], [], [], []]


@pytest.mark.parametrize(
    ("texts", "chosen"),
    [
        (["広い空と低い建物が見えます。"], "janome"),
        (["A dark sea with a red boat.", "Two men stand on the roof of a house."], "english"),
        (["Ein Mann steht in der Stadt vor einem alten Haus.", "Zwei Frauen laufen über die Straße."], "words"),
        (["Um homem na praia com a bola.", "As casas do centro são altas."], "words"),
        (["Een man is op het strand met een hond of een kat.", "De vrouw was in het huis."], "words"),
        (["电影海报上的女人", "红色的大门"], "words"),
        (["电影海报上的女人", "红色的大门和蓝色的天空下面的小房子の"], "words"),
        (["!", ""], "words"),
        ([], "words"),
        (["poster of の"] * 3 + ["a man and a dog in the street"] * 7, "english"),
        (["低層住宅、広い青空、Tシャツ"] * 6 + ["a man in the street"] * 2, "janome"),
    ],
)
def test_the_language_decides(texts, chosen):
    assert choose_tokenizer(texts) == chosen


def test_only_a_sample_is_looked_at_and_always_the_same():
    texts = ["広い空" if i % 5 == 0 else "a man in the street" for i in range(1000)]
    assert choose_tokenizer(texts) == "janome"  # 200 of 1,000: every fifth
    assert choose_tokenizer(texts[1:] + texts[:1]) == "english"


def test_options_that_a_tokenizer_does_not_take_are_refused():
    with pytest.raises(ValueError, match=r"'mecab' is none of janome, sudachi, english, words$"):
        load_tokenizer("mecab")
    with pytest.raises(ValueError, match="auto is settled by choose_tokenizer"):
        tokenizer_identity("auto")
    with pytest.raises(ValueError, match="form is 'lemma'"):
        load_tokenizer("english", form="lemma")
    with pytest.raises(ValueError, match="stop_words is the text 'the'"):
        load_tokenizer("english", stop_words="the")
    for name in ("english", "words"):
        for use in (load_tokenizer, tokenizer_identity):
            with pytest.raises(ValueError, match=f"{name!r} takes no parts_of_speech"):
                use(name, parts_of_speech=["名詞"])
    for kinds in ([], [""], ["名詞", "-名詞"]):
        with pytest.raises(ValueError, match="parts_of_speech="):
            load_tokenizer("janome", parts_of_speech=kinds)


def test_whatever_changes_the_words_is_in_the_identity(tmp_path):
    own, other = tmp_path / "own.csv", tmp_path / "other.csv"
    own.write_text("塔,名詞,トウ\n", "utf-8")
    other.write_text("塔,名詞,トウ\n", "utf-8")
    changes = [
        {"name": "janome"},
        {"name": "english"},
        {"name": "words"},
        {"name": "janome", "form": "surface"},
        {"name": "janome", "parts_of_speech": ["名詞"]},
        {"name": "janome", "stop_words": []},
        {"name": "janome", "user_dictionary": str(own)},
    ]
    told = [json.dumps(tokenizer_identity(**change), sort_keys=True) for change in changes]
    assert len(set(told)) == len(told)
    assert all("0.5" in one for one in told if '"janome"' in one)
    # by content, not by name; and the order of rules is nothing
    same = {"name": "janome", "user_dictionary": str(other)}
    assert json.dumps(tokenizer_identity(**same), sort_keys=True) == told[-1]
    other.write_text("橋,名詞,ハシ\n", "utf-8")
    assert json.dumps(tokenizer_identity(**same), sort_keys=True) != told[-1]
    kinds = [tokenizer_identity("janome", parts_of_speech=given) for given in (["名詞", "動詞"], ["動詞", "名詞"])]
    assert kinds[0] == kinds[1]
    assert LOADERS.keys() == IDENTITIES.keys()


def test_the_sentence_that_holds_a_word_in_another_form():
    janome, text = load_tokenizer("janome"), "広い空。女性が走っていた！犬も走る。"
    start, end = sentence_with("走る", text, janome)
    assert text[start:end] == "女性が走っていた！"
    assert sentence_with("猫", text, janome) is None
