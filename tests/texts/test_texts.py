import csv
import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from kdtf.errors import UserError
from kdtf.progress import Progress
from kdtf.store import Store
from kdtf.texts import corpus as corpora
from kdtf.texts import model as models
from kdtf.texts.classify import METRICS, classify_reports, hold_out
from kdtf.texts.corpus import TextConfig, distinct, read_corpus, words
from kdtf.texts.model import NEGATIONS, Tokenizer, fit, load_model, stop_words

FILES = (
    "reports_confusion.csv", "reports_confusion.png", "reports_folds.csv", "reports_metrics.csv",
    "reports_model.json", "reports_predictions.csv", "reports_summary.json", "reports_words.csv",
)  # fmt: skip
HEADER = ("uid", "findings", "impression", "label")
FILLER = ("heart", "rib", "chest", "size", "contour", "spine", "tissue", "bone", "vessel", "border")


def table(path, rows, header=HEADER):
    with open(path, "w", newline="", encoding="utf-8") as f:
        csv.writer(f).writerows([header, *rows])
    return path


def some_rows(counts, seed=0):
    """Rows of distinct texts, `{label: count}`; most of a label hold its own words."""
    rng = np.random.default_rng(seed)
    own = {
        "normal": ("clear", "unremarkable"),
        "abnormal": ("opacity", "effusion"),
        "technical": ("blur", "tilt"),
    }
    rows = []
    for label, count in counts.items():
        for i in range(count):
            name = "".join("abcdefghij"[int(d)] for d in f"{len(rows):04}")  # makes the text distinct
            used = rng.choice([*own[label], *FILLER], 6)
            rows.append([len(rows), f"No {' '.join(used)} {name}.", f"{own[label][i % 2]} lungs.", label])
    return [rows[i] for i in rng.permutation(len(rows))]


@pytest.fixture
def reports(tmp_path):
    """60 normal and 140 abnormal texts after 3 rows of which none is kept."""
    left_out = [[900, "XXXX", "", "normal"], [901, "blur", "", "technical"], [902, "", "", "abnormal"]]
    return table(tmp_path / "reports.csv", left_out + some_rows({"normal": 60, "abnormal": 140}))


def three_texts(**settings):
    reports, labels = ["Clear lung.", "Clear heart.", "Opacity lung."], np.array([0, 0, 1])
    return fit(reports, labels, TextConfig(**settings))


# words


@pytest.mark.parametrize(
    "text, expected",
    [
        ("No focal Consolidation.", "no focal consolidation"),
        ("XXXX opacity; x-XXXX, (XXXX) XXXX/lymphoma.in xxxx's", "opacity lymphoma in"),
        ("4xxxx xxxxpm XXXX-XXXX 3rd-5xxxx", ""),
        ("T12, 8mm, 6th rib", "rib"),
        ("It isn't, can’t", "it is not ca not"),
        ("Épanchement pleural", "épanchement pleural"),
    ],
)
def test_words(text, expected):
    assert words(text) == expected.split()


def test_lemmas_and_stop_words():
    assert Tokenizer(stop_words(True), True)("There are no opacities in the lungs; AP views") == [
        "no", "opacity", "lung", "ap", "view",
    ]  # fmt: skip
    assert Tokenizer(stop_words(False), False)("There are no opacities in the lungs") == [
        "opacities",
        "lungs",
    ]


def test_lemmas_are_looked_up_once(monkeypatch):
    import simplemma

    lookups = []
    monkeypatch.setattr(simplemma, "lemmatize", lambda word, lang: lookups.append(word) or word)
    models.lemma.cache_clear()
    Tokenizer(frozenset(), True)("lungs lungs lungs")
    models.lemma.cache_clear()
    assert lookups == ["lungs"]


def test_the_negations_are_stop_words_of_scikit_learn():
    assert stop_words(False) - stop_words(True) == NEGATIONS


# the door


def test_copies_are_one_text_and_conflicts_go_by_the_majority():
    keys = ["a", "b", "a", "c", "a", "b", "d", "d"]
    labels = np.array([1, 0, 0, 0, 0, 1, 1, 1])
    places, tied, conflicts = distinct(keys, labels)
    assert places.tolist() == [2, 3, 6]  # a: the first with label 0; b: 1 to 1, out; c; d
    assert (tied, conflicts) == (2, 2)


def test_what_is_left_out_is_counted(tmp_path):
    rows = some_rows({"normal": 20, "abnormal": 20, "technical": 3})
    first, second = (next(r for r in rows if r[3] == name) for name in ("normal", "abnormal"))
    more = [
        [900, f"XXXX {first[1].upper()}", first[2].replace(".", " ;"), "normal"],  # the same words
        [901, second[1], second[2], "normal"],  # 1 to 1 with its first
        [902, "XXXX. 1 2 3", "", " abnormal "],
        [903, "NA", "None", "normal"],
    ]
    corpus = read_corpus(table(tmp_path / "r.csv", rows + more), TextConfig())
    assert corpus.removed == {"other label": 3, "without a word": 1, "copies": 1, "tied between labels": 2}
    assert corpus.in_file == {"abnormal": 21, "normal": 23, "technical": 3} and corpus.conflicts == 1
    assert corpus.texts[-1] == "NA None" and corpus.rows[-1] == 46  # pandas' "missing" words are words
    assert np.bincount(corpus.labels).tolist() == [21, 19]
    assert sum(corpus.removed.values()) + len(corpus.texts) == len(rows) + len(more)


def test_no_text_is_on_both_sides_of_the_split(tmp_path):
    rows = some_rows({"normal": 40, "abnormal": 60})
    copies = [
        [uid + 1000, findings.upper(), f"xxxx {more}", label] for uid, findings, more, label in rows * 2
    ]
    settings = TextConfig()
    corpus = read_corpus(table(tmp_path / "r.csv", rows + copies), settings)
    train, test = hold_out(corpus.labels, settings)
    sides = [{" ".join(words(corpus.texts[i])) for i in part} for part in (train, test)]
    assert len(sides[0]) == 80 and len(sides[1]) == 20 and not sides[0] & sides[1]
    assert np.bincount(corpus.labels[test]).tolist() == [8, 12]


@pytest.mark.parametrize("fraction", [0.01, 0.1, 0.2, 0.33, 0.5])
@pytest.mark.parametrize("folds", [2, 5, 10])
def test_the_fewest_texts_allowed_are_enough_for_split_and_folds(fraction, folds):
    settings = TextConfig(test_fraction=fraction, folds=folds)
    least = settings.fewest
    for others in (*range(least, least + 20), 10 * least):
        labels = np.repeat([0, 1], [least, others])
        train, test = hold_out(labels, settings)
        assert np.bincount(labels[train]).min() >= folds and np.bincount(labels[test], minlength=2).min() >= 1


def test_the_longest_field_allowed_is_read(tmp_path):
    rows = some_rows({"normal": 8, "abnormal": 8})
    rows[0][1] = "lung " * (corpora.MOST_CHARACTERS // 5)
    assert len(read_corpus(table(tmp_path / "r.csv", rows), replace(TextConfig(), folds=2)).texts) == 16


# the model


def test_naive_bayes_by_hand():
    """V 4, alpha 1: normal 2/3 * 3/8 * 2/8 = 1/16 against abnormal 1/3 * 1/6 * 2/6 = 1/54."""
    model = three_texts()
    assert model.probabilities(["Lungs: clear"])[0] == pytest.approx([27 / 35, 8 / 35])
    assert model.classify(["clear lung"]) == [("normal", pytest.approx(27 / 35))]
    assert model.probabilities(["unheard of"])[0] == pytest.approx([2 / 3, 1 / 3])  # the classes' shares
    assert model.probabilities([]).shape == (0, 2)


def test_telling_words_by_hand():
    """ "clear" is 3/8 of normal and 1/6 of abnormal, smoothed: log 9/4, variance 1/3 + 1/1."""
    rows = three_texts().characteristic_words(4)
    first = rows[0]
    assert (first["class"], first["rank"], first["word"]) == ("normal", 1, "clear")
    assert first["log_odds"] == pytest.approx(np.log(9 / 4))
    assert first["z"] == pytest.approx(np.log(9 / 4) / np.sqrt(4 / 3))
    assert (first["times in normal"], first["times in abnormal"]) == (2, 0)
    assert rows[4]["word"] == "opacity" and rows[4]["log_odds"] == pytest.approx(np.log(8 / 3))


def test_rare_words_are_left_out_and_a_bag_without_words_is_refused():
    bag = three_texts(min_count=2).pipeline["bag"]
    assert bag.get_feature_names_out().tolist() == ["clear", "lung"]
    with pytest.raises(UserError, match=r"--min-count must leave words to count\. Got 3"):
        three_texts(min_count=3)


def test_a_negation_is_a_word_unless_it_is_asked_not_to_be():
    reports, labels = ["no opacity", "opacity"] * 3, np.array([0, 1] * 3)
    model = fit(reports, labels, TextConfig())
    assert [name for name, _ in model.classify(reports[:2])] == ["normal", "abnormal"]
    model = fit(reports, labels, TextConfig(negations=False))
    assert np.allclose(model.probabilities(reports), 0.5)


@pytest.mark.parametrize("wrong", ["one text", [1], [None], [b"text"]])
def test_texts_are_strings_in_a_list(wrong):
    with pytest.raises(UserError, match="texts must be a list of strings"):
        three_texts().probabilities(wrong)


@pytest.mark.parametrize("more", [{}, {"ngrams": 2, "alpha": 0.3}, {"lemmas": False, "negations": False}])
def test_a_saved_model_predicts_as_before_to_the_last_bit(tmp_path, reports, more):
    settings = TextConfig(**more)
    corpus = read_corpus(reports, settings)
    model = fit(corpus.texts, corpus.labels, settings)
    path = Store(tmp_path / "out").write_json("m.json", model.to_json())
    again = load_model(path)
    assert np.array_equal(again.probabilities(corpus.texts), model.probabilities(corpus.texts))
    assert again.classify(["unheard of"]) == model.classify(["unheard of"])
    assert again.classes == ("normal", "abnormal") and again.to_json() == model.to_json()


def changed(**values):
    return json.dumps({**three_texts().to_json(), **values})


RECORD = three_texts().to_json()
TWICE = [*RECORD["vocabulary"][:3], RECORD["vocabulary"][0]]
DAMAGED = {
    "cut": (changed()[:-40], "in JSON"),
    "pickle": (b"\x80\x04K\x01.", "in JSON"),
    "deep": ("[" * 200_000, "in JSON"),
    "list": ("[]", "missing"),
    "no prior": (json.dumps({k: v for k, v in RECORD.items() if k != "log_prior"}), r"\['log_prior'\]"),
    "format": (changed(format="another"), "format must be kdtf report text model 1"),
    "number": (changed(log_prior=[-0.4, -1.2]), "log_prior must be logarithms of parts of 1"),
    "nan": (changed(log_prior=[float("nan"), -1.0]), "log_prior must be finite"),
    "huge": (changed(log_prior=[10**400, -1.0]), "must be a text model"),
    "text": (changed(log_prior=["a", "b"]), "must be a text model"),
    "ragged": (changed(log_likelihood=[[0.0], [0.0, 1.0]]), "must be a text model"),
    "shape": (changed(vocabulary=RECORD["vocabulary"][:3]), r"log_likelihood must be shaped \(2, 3\)"),
    "twice": (changed(vocabulary=TWICE), "vocabulary must be a list of distinct words"),
    "words": (changed(stop_words="no"), "stop_words must be a list"),
    "setting": (changed(settings={"colour": 1}), "colour"),
    "rule": (changed(settings={"ngrams": 0}), "--ngrams must be between 1 and 5"),
    "settings": (changed(settings=3), "must be a text model"),
}  # fmt: skip


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_model_is_refused_in_one_line(tmp_path, name):
    content, message = DAMAGED[name]
    path = tmp_path / "m.json"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError, match=message) as caught:
        load_model(path)
    assert "\n" not in str(caught.value) and str(path) in str(caught.value)


def test_a_missing_model_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"The text model must be readable. Got '.*none.json'"):
        load_model(tmp_path / "none.json")


# the run


def test_the_files_agree_with_each_other(tmp_path, reports):
    out, progress = Store(tmp_path / "out"), Progress()
    closing = classify_reports(reports, TextConfig(), out, progress)
    assert sorted(p.name for p in out.root.iterdir() if p.is_file()) == sorted(FILES)
    read_csv = {name: pd.read_csv(out.path(name)) for name in FILES if name.endswith("csv")}
    source, predictions = pd.read_csv(reports, keep_default_na=False), read_csv["reports_predictions.csv"]
    assert (
        len(predictions) == 40 and (source.label[predictions["index"]].to_numpy() == predictions.true).all()
    )
    assert (predictions[["p normal", "p abnormal"]].idxmax(axis=1) == "p " + predictions.predicted).all()
    counts = read_csv["reports_confusion.csv"].set_index("true")
    assert (
        counts == pd.crosstab(predictions.true, predictions.predicted).loc[counts.index, counts.columns]
    ).all(axis=None)
    measured = read_csv["reports_metrics.csv"]
    test = measured[(measured.part == "test") & measured["class"].isna()].set_index(["model", "metric"])
    assert test.value["naive Bayes", "accuracy"] == pytest.approx(predictions.correct.mean())
    assert (test.low <= test.value + 1e-6).all() and (test.value <= test.high + 1e-6).all()
    folds = read_csv["reports_folds.csv"]
    mean = folds[folds.model == "naive Bayes"].auc.mean()
    row = measured[(measured.part == "cross-validation") & (measured.model == "naive Bayes")]
    assert row.set_index("metric").value["auc"] == pytest.approx(mean, abs=1e-5)
    assert folds.groupby("model").texts.sum().tolist() == [160, 160]
    model = load_model(out.path("reports_model.json"))
    joined = (source.findings + " " + source.impression)[predictions["index"]].tolist()
    assert np.allclose(model.probabilities(joined)[:, 0], predictions["p normal"], rtol=1e-5, atol=0)
    summary = json.loads(out.path("reports_summary.json").read_text())
    assert summary["train"] == {"normal": 48, "abnormal": 112}
    assert summary["test"] == {"normal": 12, "abnormal": 28}
    assert (
        closing[0]["accuracy"] == pytest.approx(predictions.correct.mean())
        and closing[0]["model"] == "naive Bayes"
    )
    assert summary["verdict"].startswith("naive Bayes against the majority: gain of ")
    with Image.open(out.path("reports_confusion.png")) as picture:
        assert picture.format == "PNG" and min(picture.size) > 200
    assert progress.warnings == []


def test_the_majority_is_the_larger_class_and_the_difference_is_from_it(tmp_path, reports):
    out = Store(tmp_path / "out")
    bayes, majority = classify_reports(reports, TextConfig(), out, Progress())
    assert majority["accuracy"] == pytest.approx(28 / 40) and majority["balanced_accuracy"] == 0.5
    assert majority["f1"] == pytest.approx((2 * 0.7 / 1.7) / 2) and majority["auc"] == 0.5
    assert majority["brier"] == pytest.approx(2 * 0.3 * 0.7, abs=1e-6)  # the training shares are 0.3, 0.7
    rows = pd.read_csv(out.path("reports_metrics.csv")).set_index(["model", "metric"]).value
    for metric in METRICS:
        expected = bayes[metric] - majority[metric]
        assert rows["naive Bayes - majority", metric] == pytest.approx(expected, abs=1e-5)


def test_the_same_run_writes_the_same_bytes_and_another_seed_does_not(tmp_path, reports):
    outs = [Store(tmp_path / name) for name in "abc"]
    for out, seed in zip(outs, (0, 0, 1), strict=True):
        classify_reports(reports, TextConfig(seed=seed), out, Progress())
    assert outs[0].outputs == outs[1].outputs
    assert outs[0].outputs["reports_predictions.csv"] != outs[2].outputs["reports_predictions.csv"]


def test_the_test_texts_do_not_reach_the_model(tmp_path):
    """Other words in every test text leave the saved model as it was."""
    rows, settings, models = some_rows({"normal": 30, "abnormal": 30}), TextConfig(), []
    for turn in range(2):
        path = table(tmp_path / "r.csv", rows)
        out = Store(tmp_path / str(turn))
        classify_reports(path, settings, out, Progress())
        models.append(out.path("reports_model.json").read_bytes())
        for i in pd.read_csv(out.path("reports_predictions.csv"))["index"]:
            rows[i] = [rows[i][0], f"zebra {rows[i][1]}", "quagga", rows[i][3]]
    assert models[0] == models[1]


def test_three_labels(tmp_path):
    path = table(tmp_path / "r.csv", some_rows({"normal": 30, "abnormal": 40, "technical": 50}))
    settings = TextConfig(labels=("normal", "abnormal", "technical"), folds=3)
    bayes, majority = classify_reports(path, settings, Store(tmp_path / "out"), Progress())
    assert bayes["balanced_accuracy"] > 0.9 and majority["balanced_accuracy"] == pytest.approx(1 / 3)
    listed = pd.read_csv(tmp_path / "out" / "reports_words.csv")
    assert {"blur", "tilt"} <= set(listed[listed["class"] == "technical"].word[:3])


def test_a_text_under_two_labels_is_said(tmp_path):
    rows = some_rows({"normal": 20, "abnormal": 20})
    progress = Progress()
    path = table(tmp_path / "r.csv", [*rows, [*rows[0][:3], "normal"], [*rows[0][:3], "abnormal"]])
    classify_reports(path, TextConfig(), Store(tmp_path / "out"), progress)
    assert progress.warnings and progress.warnings[0].startswith(
        "The same text under several labels: 1 times"
    )


# bad input

GOOD = "findings,impression,label\n"
BAD = {
    "empty": (b"", "must be a CSV file with a header"),
    "header": (GOOD, r"at least 8 .* Got {'normal': 0, 'abnormal': 0}. Labels in column 'label': none"),
    "latin": (f"{GOOD}é,b,normal\n".encode("latin-1"), "must be UTF-8 text"),
    "binary": (b"\x89PNG\r\n\x1a\n\0\0\0", "must be a CSV file of text"),
    "columns": ("uid,text,label\n1,a,normal\n", r"among 'uid', 'text', 'label'. Got \['findings', 'impres"),
    "semicolons": (GOOD.replace(",", ";"), "among 'findings;impression;label'"),
    "ragged": (f"{GOOD}a,b,normal\na,b,c,d,normal\n", "Expected 3 fields in line 3, saw 5"),
    "wide": (f"{GOOD}1,a,b,normal\n2,c,d,normal\n", "as wide as its header"),
    "open quote": (f'{GOOD}"a,b,normal\nc,d,normal\n', "EOF inside string"),
    "one label": (GOOD + "".join(f"lung {c}{c},,normal\n" for c in "abcdefghij"), "'abnormal': 0"),
    "other labels": (f"{GOOD}a b,,sick\n", "Labels in column 'label': 'sick'"),
    "few": (GOOD + "lung aa,,normal\nlung bb,,abnormal\n", "at least 8 for --folds 5 and --test-fr"),
    "copies": (GOOD + "lung,,normal\nrib,,abnormal\n" * 50, "Got {'normal': 1, 'abnormal': 1}"),
    "short rows": (GOOD + "lung aa\n" * 20, "Labels in column 'label': ''"),
    "huge": (f"{GOOD}{'lung ' * 30_000},,normal\n", "at most 100,000 characters long. Got 150000"),
    "wordless": (GOOD + "".join(f"the {w},,{label}\n" for label, ws in (
        ("normal", "and or if of in on at by"), ("abnormal", "to from up is are be was were")
    ) for w in ws.split()), "--min-count must leave words to count. Got 1: empty vocabulary"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_files_are_refused_in_one_line_and_nothing_is_written(tmp_path, name):
    content, message = BAD[name]
    path, out = tmp_path / "r.csv", Store(tmp_path / "out")
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError, match=message) as caught:
        classify_reports(path, TextConfig(), out, Progress())
    assert "\n" not in str(caught.value)
    assert [p for p in out.root.rglob("*") if p.is_file()] == []


@pytest.mark.parametrize("name", ["none.csv", "."])
def test_what_cannot_be_opened_is_named(tmp_path, name):
    with pytest.raises(UserError, match=r"The CSV file must be readable\. Got"):
        read_corpus(tmp_path / name, TextConfig())


@pytest.mark.parametrize(
    "values, message",
    [
        ({"text_columns": ()}, "--text-columns must be at least one name"),
        ({"text_columns": ("findings", "label")}, "--text-columns must be other than the label's"),
        ({"labels": ("normal",)}, "--labels must be at least two different names"),
        ({"labels": ("a", "b", "a")}, "--labels must be named once each"),
        ({"test_fraction": 0.0}, "--test-fraction must be above 0"),
        ({"test_fraction": float("nan")}, "--test-fraction must be above 0"),
        ({"folds": 1}, "--folds must be at least 2"),
        ({"min_count": 0}, "--min-count must be at least 1"),
        ({"ngrams": 9}, "--ngrams must be between 1 and 5"),
        ({"alpha": 0.0}, "--alpha must be between"),
        ({"alpha": float("inf")}, "--alpha must be between"),
        ({"seed": -1}, "--seed must be between"),
        ({"seed": 0.5}, "--seed must be of type int"),
    ],
)
def test_bad_settings(values, message):
    with pytest.raises(UserError, match=message):
        TextConfig(**values)


# real reports


def test_open_i(shared_data, tmp_path):
    path = shared_data / "openi_reports.csv"
    if not path.exists():
        pytest.skip("no openi_reports.csv among the real data")
    progress = Progress()
    bayes, majority = classify_reports(path, TextConfig(), Store(tmp_path / "out"), progress)
    summary = json.loads((tmp_path / "out" / "reports_summary.json").read_text())
    assert summary["removed"] == {
        "other label": 101, "without a word": 28, "copies": 745, "tied between labels": 2,
    }  # fmt: skip
    assert summary["train"] == {"normal": 520, "abnormal": 1943} and bayes["test_texts"] == 616
    assert summary["texts_with_several_labels"] == 4 and len(progress.warnings) == 1
    assert 0.89 < bayes["accuracy"] < 0.95 and bayes["auc"] > 0.96
    assert majority["accuracy"] == pytest.approx(486 / 616)
    listed = pd.read_csv(tmp_path / "out" / "reports_words.csv")
    assert {"no", "clear"} <= set(listed[listed["class"] == "normal"].word)
    assert {"atelectasis", "cardiomegaly"} <= set(listed[listed["class"] == "abnormal"].word)
