import pytest

from seewhy.report.sentences import Quote, quote, spelt


@pytest.mark.parametrize(
    ("text", "word", "expected"),
    [
        ("空は青い。港に船がある。橋もある。", "船", Quote("港に", "船", "がある。")),
        ("One cat sat. Two Dogs ran! Three", "dogs", Quote("Two ", "Dogs", " ran!")),
        ("A list:\nred car\nblue  bus", "bus", Quote("blue ", "bus", "")),
        ("「船だ！」と言った。", "船", Quote("「", "船", "だ！」")),
        ("The 3.5 m mast is tall. Next.", "mast", Quote("The 3.5 m ", "mast", " is tall.")),
        ("no such thing here", "boat", Quote("no such thing here", "", "")),
        ("", "boat", Quote("", "", "")),
    ],
)
def test_the_sentence_that_holds_the_word(text: str, word: str, expected: Quote) -> None:
    assert quote(text, word) == expected


def test_a_spaced_word_is_found_whole_only() -> None:
    assert spelt("a cartoon of a car", "car") == (15, 18)
    assert spelt("cars", "car") is None
    assert spelt("自転車", "車") == (2, 3)  # Japanese has no spaces: find_sentence knows words, this does not
    assert spelt("a.b", "") is None
    assert spelt("price (a+b)", "(a+b)") == (6, 11)


def test_a_tokenizers_sentence_is_taken_and_an_inflected_form_is_marked() -> None:
    text = "空は青い。路地に面した家。"
    assert quote(text, "面する", find=lambda word, said: (5, 13)) == Quote("路地に", "面", "した家。")
    assert quote("Old cities shine.", "city", find=lambda w, t: (0, 17)) == Quote("Old ", "cit", "ies shine.")
    assert quote("大学の大きな門。", "大きい", find=lambda w, t: (0, 8)).word == "大き"
    assert quote("上の空と空の上。", "上がる", find=lambda w, t: (0, 8)).word == ""  # which of the two?
    assert quote(text, "行く", find=lambda word, said: (5, 13)) == Quote("路地に面した家。", "", "")
    assert quote(text, "家", find=lambda word, said: None) == Quote(text, "", "")


@pytest.mark.parametrize("at", [0, 3, 400, 797])
def test_a_long_sentence_is_cut_around_the_word(at: int) -> None:
    text = "あ" * at + "船" + "い" * (800 - at)
    said = quote(text, "船", most=60)
    assert said.word == "船"
    assert 30 <= len(said.text) <= 60
    assert said.before.startswith("…") == (at > 40)
    assert said.after.endswith("…") == (at < 760)
    assert said.text.strip("…") in text


def test_words_are_not_cut_in_two() -> None:
    text = " ".join(f"word{i}" for i in range(90))
    said = quote(text, "word45", most=80)
    assert set(said.text.replace("…", "").split()) <= set(text.split())
    assert said.word == "word45"
