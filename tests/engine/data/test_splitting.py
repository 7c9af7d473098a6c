"""Sentences end where readers of the language end them, and English ones where Punkt does."""

import pytest

from engine.data import splitting
from engine.data.builtin import builtin_documents
from engine.data.splitting import split_sentences


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("今天是第7天，天气很好。我们去公园散步！他说：“好吗？”圆周率是3．14。", 4),
        ("こんにちは。「元気ですか？」はい！｡", 3),
        ("यह एक वाक्य है। दूसरा वाक्य है॥", 2),
        ("هذا سؤال؟ نعم. هذه جملة أخرى.", 3),
        ("یہ جملہ ہے۔ دوسرا جملہ۔", 2),
        ("ฉันไปตลาด เขาไปโรงเรียน\nดี", 3),
        ("ນີ້ແມ່ນ ປະໂຫຍກ", 2),
        ("នេះជាប្រយោគ។ មួយទៀត។", 2),
        ("ဒါက ဝါကျ။ နောက်တစ်ခု။", 2),
        ("Սա նախադասություն է։ Երկրորդը։", 2),
        ("ይህ ዓረፍተ ነገር ነው። ሁለተኛ።", 2),
        ("你好!我是?他", 3),
    ],
)
def test_scripts_with_marks_of_their_own(text: str, sentences: int) -> None:
    assert len(split_sentences((text,))) == sentences
    assert "".join("".join(split_sentences((text,))).split()) != ""


@pytest.mark.parametrize("line", ["This is sentence number {}.", "The chapter has number {}.”", "see page {}.\r"])
def test_a_number_at_the_end_of_a_line_ends_a_sentence(line: str) -> None:
    text = "\n".join(line.format(i) for i in range(500))
    assert len(split_sentences((text,))) == 500


def test_without_the_rule_punkt_joins_them() -> None:
    text = "\n".join(f"This is sentence number {i}." for i in range(500))
    assert split_sentences((text,), rules=False) == (text.replace("\n", " "),)


def test_the_number_of_an_item_is_no_sentence() -> None:
    text = "\n".join(f"{i}.\nThis is item {i} of a list" for i in range(100))
    assert split_sentences((text,)) == split_sentences((text,), rules=False)


def test_english_ends_where_punkt_ends_it() -> None:
    text = "Mr. Smith paid 3.50 dollars, i.e. much. He left at 7 p.m. on Jan. 5. Why? “No!” she said.\nIt was late."
    assert split_sentences((text,)) == split_sentences((text,), rules=False)
    assert "Mr. Smith paid 3.50 dollars, i.e. much." in split_sentences((text,))


def test_a_long_text_is_cut_the_same_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "\n\n".join(builtin_documents()[:60])
    whole = split_sentences((text,))
    monkeypatch.setattr(splitting, "_PART", 3000)
    split_sentences.cache_clear()
    assert split_sentences((text,)) == whole


def test_a_text_of_one_line_takes_no_time_of_its_square() -> None:
    for text in ("字" * 300_000, "word " * 20_000, "7." * 50_000, ". " * 10_000, "ก " * 20_000):
        split_sentences((text,))
