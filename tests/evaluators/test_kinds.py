"""What single kinds promise beyond the contracts."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import transformers

from evaluators._errors import InputError
from evaluators._transformers import TransformersEngine, transformers_engine
from evaluators._types import Item
from evaluators.bleu import bleu
from evaluators.choice_loglikelihood import choice_loglikelihood
from evaluators.chrf import chrf
from evaluators.classifier import classifier
from evaluators.exact_match import exact_match
from evaluators.output_language import output_language
from evaluators.perplexity import perplexity

from . import samples


@pytest.fixture(scope="module")
def engine() -> TransformersEngine:
    return transformers_engine(str(samples.DEMO), dtype="float32", device="cpu")


def item(answer: str = "x", language: str = "en", prompt: str = "p", choices: tuple[str, ...] = ()) -> Item:
    return Item("i", prompt, answer, language, "g", "", "search", choices)


def test_teacher_forced_is_greedy_generation_on_every_item_of_the_demo(engine: TransformersEngine) -> None:
    rows = samples.items() + [item("no such answer", prompt=row.prompt) for row in samples.items()[::3]]
    forced = exact_match().score(engine, rows)
    assert forced == exact_match(mode="generate").score(engine, rows)
    assert 0 < sum(forced) < len(rows)


def test_sentence_scores_are_sacrebleus() -> None:
    import sacrebleu

    said, wanted = "les deux chats dorment dans la maison", "les deux chiens dorment dans une maison"
    row = item(wanted, "fr")
    assert chrf().grade(row, said) == pytest.approx(sacrebleu.sentence_chrf(said, [wanted]).score / 100)
    plus = sacrebleu.sentence_chrf(said, [wanted], word_order=2).score / 100
    assert chrf(word_order=2).grade(row, said) == pytest.approx(plus)
    assert bleu().grade(row, said) == pytest.approx(sacrebleu.sentence_bleu(said, [wanted]).score / 100)
    assert chrf().version != chrf(word_order=2).version


@pytest.mark.parametrize(
    ("row", "says"),
    [
        (item("x", choices=("x",)), "1 of 1 items have fewer than two choices"),
        (item("x", choices=("x", "")), "or an empty one"),
        (item("z", choices=("x", "y")), "is not exactly one of their choices: i"),
        (item("x", choices=("x", "x", "y")), "is not exactly one of their choices"),
        (item("", choices=("x", "y")), "1 of 1 items have no answer"),
    ],
)
def test_choices_that_cannot_be_scored(row: Item, says: str) -> None:
    with pytest.raises(InputError, match=says):
        choice_loglikelihood().check([row])


def test_of_equal_choices_the_first_wins() -> None:
    kind = choice_loglikelihood()
    row = item("b", choices=("a", "b"))
    assert kind._likeliest(row, [-1.0, -1.0]) == "a"  # type: ignore[attr-defined]
    assert kind._likeliest(row, [-2.0, -1.0]) == "b"  # type: ignore[attr-defined]


def test_perplexity_counts_bytes_or_tokens(engine: TransformersEngine) -> None:
    row = item("пять", "ru", "число 5")
    (by_token,), (by_byte,) = perplexity().score(engine, [row]), perplexity(unit="byte").score(engine, [row])
    (found,) = engine.loglikelihood([row.prompt], [row.answer])
    assert by_byte ** (8 / found.tokens) == pytest.approx(by_token, rel=1e-6)


@pytest.mark.parametrize(
    ("language", "text", "value"),
    [
        ("fr", "Je voudrais réserver une table pour deux personnes.", 1.0),
        ("fr", "I would like to book a table for two people.", 0.0),
        ("hi", "मैं कल दिल्ली जा रहा हूँ।", 1.0),
        ("hi", "मी उद्या दिल्लीला जात आहे.", 0.0),  # Marathi, the same script
        ("ru", "Завтра я поеду в Москву.", 1.0),
        ("en", "12 345", 0.0),
    ],
)
def test_languages_are_told(language: str, text: str, value: float) -> None:
    assert output_language(among=["en", "fr", "hi", "mr", "ru", "es"]).grade(item(language=language), text) == value


def test_languages_that_cannot_be_told_are_named() -> None:
    with pytest.raises(InputError, match="lingua cannot tell the language 'tlh'"):
        output_language().check([item(language="tlh")])
    with pytest.raises(InputError, match="among does not list hi"):
        output_language(among=["en", "fr"]).check([item(language="hi"), item(language="en")])
    with pytest.raises(InputError, match="at least two"):
        output_language(among=["en"])


def test_answers_in_another_script_are_found() -> None:
    mixed = [item("दो", "hi"), item("two cats", "hi"), item("three", "hi"), item("A", "hi"), item("7", "hi")]
    with pytest.raises(
        InputError, match=r"2 of 3 answers in 'hi' are not in DEVANAGARI script but in LATIN, such as 'two"
    ):
        exact_match().check(mixed)
    exact_match(script="any").check(mixed)
    exact_match().check(
        [item("दो", "hi"), item("IPL", "hi"), item("A", "hi"), item("दो cats", "hi"), item("x y", "xx")]
    )
    for kind in (chrf(), bleu()):
        with pytest.raises(InputError, match="DEVANAGARI"):
            kind.check(mixed)


@pytest.fixture(scope="module")
def guard(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo's own model as a guard: what it writes about a response is the number's name."""
    folder = tmp_path_factory.mktemp("guard") / "guard"
    shutil.copytree(samples.DEMO, folder)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = "{{ bos_token }}<|user|> number {{ messages[1].content }}<|assistant|>"
    tokenizer.save_pretrained(folder)
    return folder


def test_a_generative_guard_labels_by_what_it_writes(guard: Path) -> None:
    kind = classifier(model=str(guard), label="thirty", positive="33", negative="7")
    kind.check([])
    assert [kind.grade(item(), text) for text in ("34", "3", "38")] == [1.0, 0.0, 1.0]
    with pytest.raises(InputError, match="negative '33' gets the label"):
        classifier(model=str(guard), label="thirty", positive="33", negative="33").grade(item(), "x")
    with pytest.raises(InputError, match="say inputs: pair"):
        classifier(model=str(guard), label="yes", positive="x", inputs="response").check([])


def test_classifiers_are_looked_at_before_they_are_loaded(tmp_path: Path) -> None:
    model = str(samples.sequence_classifier(tmp_path / "classifier"))
    classifier(model=model, label="refusal", positive="x").check([])
    with pytest.raises(InputError, match="has no label 'refused'; its labels: answer, refusal"):
        classifier(model=model, label="refused", positive="x").check([])
    with pytest.raises(InputError, match="neither a directory nor in the hub cache"):
        classifier(model="nobody/nothing", label="x", positive="x").check([])
    wrong = classifier(model=model, label="answer", positive=samples.REFUSED[0], inputs="response")
    with pytest.raises(InputError, match="does not get the label 'answer'"):
        wrong.grade(item(), "x")
    pair = classifier(model=model, label="refusal", positive=samples.REFUSED[0], inputs="pair")
    assert pair.grade(item(prompt=""), samples.REFUSED[1]) == 1
    assert pair.version != wrong.version
