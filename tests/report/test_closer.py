"""shap's plot as a page: what stands in the manifest or in a caption is shown, never run."""

from dataclasses import replace

import numpy as np
import pytest

from seewhy.shapley import owen_values, text_predict
from seewhy.steps.closer import plot_page
from tests.report.page import read_page
from tests.text_models import reader, wordpiece

CLASS = "<img src=x onerror=alert(3)>"
TEXT = "a dark <script>alert(4)</script> <img src=x onerror=alert(5)> \"poster\" with 'letters'"


@pytest.mark.parametrize("classes", [3, 1])
def test_nothing_from_outside_becomes_a_part_of_the_plot(tmp_path, classes):
    tokenizer = wordpiece()
    predict = text_predict(reader(tokenizer, outputs=classes), tokenizer, softmax=True)
    explained = owen_values([TEXT], predict=predict, tokenizer=tokenizer, max_evals=40)
    names = [CLASS, "drama", "comedy"][:classes]
    made = plot_page(explained, output_names=names, title=CLASS)
    (tmp_path / "plot.html").write_text(made, encoding="utf-8")
    page = read_page(tmp_path / "plot.html")
    assert not page.all("img")
    assert all("alert" not in script.text for script in page.all("script"))
    assert page.one("title").text == CLASS
    if classes > 1:
        assert CLASS in page.text.replace(page.one("title").text, "", 1)
    (policy,) = (m for m in page.all("meta") if "http-equiv" in m.attributes)
    assert policy.attributes["content"] == (
        "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:"
    )
    assert made.index("Content-Security-Policy") < made.index("<svg")
    assert np.isfinite(explained[0].residual)


def test_hidden_characters_of_the_plot_are_written_out():
    tokenizer = wordpiece()
    predict = text_predict(reader(tokenizer, outputs=2), tokenizer, softmax=True)
    (found,) = owen_values(["a dark poster"], predict=predict, tokenizer=tokenizer, max_evals=40)
    odd = replace(found, segments=tuple(f"\u202e{segment}\u200b" for segment in found.segments))
    made = plot_page([odd], output_names=["dra\u2066ma", "comedy"], title="a\u202eb")
    assert not set("\u202e\u200b\u2066") & set(made)
    assert all(written in made for written in ("[U+202E]", "[U+200B]", "dra[U+2066]ma", "<title>a[U+202E]b</title>"))
