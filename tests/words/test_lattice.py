"""The same words as janome's own, whatever the text; the whole law that this room has."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from janome.tokenizer import Tokenizer

from seewhy.words import lattice
from seewhy.words.lattice import Lattice

SENTENCES = [
    "すもももももももものうち",
    "新宿のビル群に面した路地で、２匹の犬が食べられていない。",
    "大きな看板のある低層住宅と、広い青空が見えます！",
    "レンガの建物の前を、乳母車を押した女性が歩いています。",
    "グリフォンカーとＴシャツ、T-shirtと10:30、1,000円…🎬",
    "東京都江東区豊洲の自転車専用道路に、ガードレールと駐輪場が並んでいる",
    "丏一二が丏ヵ月と丏々、二〇一〇年",  # unknown characters beside some that go for their kind as well
]


@pytest.fixture(scope="module")
def plain() -> Tokenizer:
    return Tokenizer()


@pytest.fixture(scope="module")
def quick(plain: Tokenizer) -> Lattice:
    return Lattice(plain)


def janomes(tokenizer: Tokenizer, text: str) -> list[tuple[str, str, str]]:
    return [(token.surface, token.part_of_speech, token.base_form) for token in tokenizer.tokenize(text)]


@pytest.mark.parametrize("text", SENTENCES)
def test_sentences(plain, quick, text):
    assert quick(text) == janomes(plain, text)
    assert "".join(word.surface for word in quick(text)) == text


mixed = st.text(
    alphabet=st.sampled_from("".join(SENTENCES) + "はがのをにで日本人一々ー・「」 　\n\r.?éа漢𠮷ｶﾞ"), max_size=60
)


@settings(max_examples=300, deadline=None)
@given(text=mixed | st.text(max_size=20))
def test_any_text(plain, quick, text):
    assert quick(text) == janomes(plain, text)


@settings(max_examples=25, deadline=None)
@given(pieces=st.lists(st.sampled_from([*SENTENCES, "\n\n", "\r\n\r\n", "カ", "広い空"]), min_size=40, max_size=120))
def test_long_texts_are_cut_at_the_same_places(plain, quick, pieces):
    text = "".join(pieces)
    assert quick(text) == janomes(plain, text)
    bare = text.translate({ord(mark): None for mark in "、。，．,.？?！!\r\n"})  # cut by length alone
    assert quick(bare) == janomes(plain, bare)


@pytest.mark.parametrize(
    ("length", "phone"), [(0, ["スマ", "ホ"]), (490, ["スマ", "ホ"]), (510, ["スマホ"]), (1012, ["スマホ"])]
)
def test_a_comma_beyond_500_characters_is_a_cut(plain, quick, length, phone):
    """A text's first word is weighed without what stood before: スマホ comes out another way behind a cut."""
    text = ("空と海" * 400)[:length] + "の中、スマホを操作している"
    assert quick(text) == janomes(plain, text)
    after = [word.surface for word in quick(text)]
    assert after[after.index("、") + 1 : after.index("を")] == phone


def test_of_ways_that_cost_the_same_the_smaller_number_ends(plain, tmp_path):
    """彁彅 as one word and as two, equally dear; the words' numbers are their lines."""
    between = plain.sys_dic.connections[0][0]
    lines = ["彅,0,0,-9000,二,*,*,*,*,*,二,*,*", "彁,0,0,-9000,一,*,*,*,*,*,一,*,*"]
    whole = f"彁彅,0,0,{-18000 + between},全,*,*,*,*,*,全,*,*"
    for order, expected in (([*lines, whole], ["一", "二"]), ([whole, *lines], ["全"])):
        path = tmp_path / "own.csv"
        path.write_text("\n".join(order) + "\n", "utf-8")
        own = Tokenizer(str(path), udic_enc="utf8")
        assert [word.base_form for word in Lattice(own)("彁彅")] == expected
        assert Lattice(own)("彁彅") == janomes(own, "彁彅")


@pytest.mark.parametrize(
    ("kind", "lines"),
    [
        ("simpledic", ["すもも,果物,スモモ", "もももも,果物,モモモモ", "青空が見え,景色,アオゾラ", "駐輪場が,名,ノ"]),
        (
            "ipadic",
            [
                "ビル群,1288,1288,4569,名詞,固有名詞,一般,*,*,*,ビル群,ビルグン,ビルグン",
                "ビル群,1285,1285,4569,名詞,一般,*,*,*,*,ビルの群,ビルグン,ビルグン",  # as dear, and of a larger number
                "江東,1293,1293,-500,名詞,固有名詞,地域,一般,*,*,江東,コウトウ,コートー",
            ],
        ),
    ],
)
def test_a_users_dictionary(tmp_path, kind, lines):
    path = tmp_path / "own.csv"
    path.write_text("".join(f"{line}\n" for line in lines), "utf-8")
    own = Tokenizer(str(path), udic_enc="utf8", udic_type=kind)
    found = Lattice(own)
    for text in SENTENCES:
        assert found(text) == janomes(own, text)
    seen = {word.surface for text in SENTENCES for word in found(text)}
    assert any(line.split(",")[0] in seen for line in lines)


def test_what_is_remembered_is_bounded_and_changes_nothing(plain, monkeypatch):
    monkeypatch.setattr(lattice, "_REMEMBERED", 10)
    forgetful = Lattice(plain)
    for text in SENTENCES * 2:
        assert forgetful(text) == janomes(plain, text)
        assert forgetful._words._branches <= 10 + 50
