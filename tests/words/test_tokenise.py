"""The stage: words by id, texts without any among them."""

import pyarrow as pa
import pytest

from seewhy import schema
from seewhy.run import Source, check_ids, run_stage
from seewhy.table import Table
from seewhy.words.tokenise import TokeniseWords

TEXTS = ["広い空と広い庭", "", None, "。", "低い建物"]
BATCH = pa.table({"id": ["e", "b", "a", "d", "c"], "text": TEXTS})


def test_words_stand_by_their_ids_in_the_order_given():
    stage = TokeniseWords(tokenizer="janome")
    found = stage(BATCH)
    check_ids(stage, BATCH, found)
    assert found.schema == schema.TOKENS
    assert found["words"].to_pylist() == [["広い", "空", "広い", "庭"], [], [], [], ["低い", "建物"]]
    assert found["error_kind"].null_count == 5
    assert len(stage(BATCH.slice(0, 0))) == 0


def test_options_reach_the_tokenizer():
    stage = TokeniseWords(tokenizer="janome", parts_of_speech=["名詞"], stop_words=["庭"])
    assert stage(BATCH)["words"].to_pylist() == [["空"], [], [], [], ["建物"]]
    with pytest.raises(ValueError, match="auto is settled"):
        TokeniseWords(tokenizer="auto")


@pytest.mark.ray
def test_on_workers(ray_cluster: None, tmp_path):
    table = Table(str(tmp_path / "tokens"), schema.TOKENS)
    args = {"tokenizer": "janome", "form": "surface"}
    counts = run_stage(TokeniseWords, args, Source(BATCH), table, rows_per_block=2, workers=2, num_cpus=0.5)
    assert (counts.ok, counts.missing) == (5, 0)
    found = dict(zip(*table.read(["id", "words"]).to_pydict().values(), strict=True))
    assert found["c"] == ["低い", "建物"]
    assert found["a"] == []
