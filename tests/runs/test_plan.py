"""The plan is pure: which tasks settings and facts make, and that every setting is in a key or harmless."""

import pickle
from dataclasses import dataclass, fields, replace

import pytest

from kdtf.cli.arguments import add_section, new_parser
from kdtf.config import Config, ViewConfig
from kdtf.errors import UserError
from kdtf.records import Rule
from kdtf.runs.kinds import KINDS, PACKAGES
from kdtf.runs.plan import plan
from kdtf.runs.records import Candidate, Facts, Origin
from kdtf.sections import option
from kdtf.tflite.recipes import RECIPES

VERSIONS = {package: "1.0" for package in PACKAGES}
FACTS = Facts("digest", "name", ("a", "b"), VERSIONS, ("vgg16", "cnn5"))
KNOWN = replace(
    FACTS, origins={("vgg16", 0): Origin("pretrained", True), ("cnn5", 0): Origin("random", False)}
)
# settings that change no stage, and why
HARMLESS = {
    "demo": "where the images come from; their digest is in every key",
    "data": "where the images lie; their digest is in every key",
    "class_names": "in the facts, and in the keys of reports",
    "image_size": "in the digest of the images",
    "val_fraction": "in the digest of the images",
    "unlabelled": "where images without labels lie; their digest is in the facts",
    "strict": "stops the run or does not",
    "store_views": "stored views are the computed ones, byte for byte",
    "teachers": "in the facts, by their names in the registry",
    "results": "where stages lie",
    "fresh": "forgets stages",
    "verify": "reads again what stages hold",
    "threads": "as with another machine: the last digits of sums",
    "accept_versions": "in the facts, as versions",
    "jobs": "the same tasks side by side",
    "engine": "the same tasks elsewhere",
    "address": "the same tasks elsewhere",
    "slurm": "the same tasks elsewhere",
    "log_dir": "where the course of trainings is written beside",
    "tracking": "what hears of the results",
}
# another value for every setting; where a default hides its effect, the settings that show it
CHANGES = {
    "views": 3,
    "flip": False,
    "shift": 0.2,
    "rotate": 5.0,
    "zoom": 0.2,
    "brightness": 0.2,
    "contrast": 0.2,
    "weights": "none",
    "teacher_size": 64,
    "head": "linear",
    "head_dropout": 0.1,
    "head_epochs": 0,
    "head_rate": 0.1,
    "freeze": True,
    "fine_tune_epochs": 3,
    "fine_tune_rate": 0.1,
    "scratch_epochs": 3,
    "scratch_rate": 0.1,
    "teacher_optimizer": "SGD",
    "teacher_schedule": "constant",
    "teacher_weight_decay": 0.1,
    "teacher_warmup": 0.2,
    "teacher_clipnorm": 1.0,
    "label_smoothing": 0.1,
    "fine_tune_batch_size": 8,
    "patience": 3,
    "ensemble": True,
    "best_of": True,
    "teacher_momentum": 0.5,
    "labeller": "litert",
    "mirror": True,
    "student": "cnn5",
    "students": ("cnn3", "cnn5"),
    "sides": (16, 32),
    "trials": 2,
    "baseline": "baseline",
    "epochs": 3,
    "batch_size": 8,
    "learning_rate": 0.1,
    "optimizer": "SGD",
    "schedule": "constant",
    "weight_decay": 0.1,
    "clipnorm": 1.0,
    "warmup": 0.2,
    "student_momentum": 0.5,
    "student_dropout": 0.1,
    "alpha": 0.3,
    "temperature": 5.0,
    "loss": "soft-ce",
    "unlabelled_share": 0.3,
    "alphas": (0.1, 0.3),
    "temperatures": (3.0, 4.0),
    "loss_options": ("x=1",),
    "recipes": ("int8",),
    "calibration_images": 9,
    "calibration_seed": 3,
    "mixed": True,
    "compress": ("prune",),
    "qat_epochs": 3,
    "qat_rate": 0.1,
    "compress_epochs": 3,
    "compress_rate": 0.1,
    "sparsity": 0.3,
    "clusters": 3,
    "seeds": 2,
    "teacher_seeds": True,
    "folds": 3,
    "budget_kib": 9.0,
    "budget_kmacs": 9.0,
    "budget_arena_kib": 9.0,
    "min_sensitivity": 0.8,
    "coverage": 0.8,
    "sets": "threshold",
    "ship_over_majority": 0.1,
    "ship_sensitivity": 0.6,
    "ship_distilled_loss": 0.1,
    "ship_file_loss": 0.1,
    "ship_val_images": 9,
    "ship_group_accuracy": 0.6,
    "card_subgroups": True,
    "seed": 3,
    "deterministic": True,
}
BEFORE = {
    "head_dropout": {"head": "linear"},
    "budget_kib": {"student": "cut:mobilenetv2"},
    "budget_kmacs": {"student": "cut:mobilenetv2"},
    "budget_arena_kib": {"student": "cut:mobilenetv2"},
    "mixed": {"recipes": ("int8",)},
    "qat_epochs": {"recipes": ("int8-qat",)},
    "qat_rate": {"recipes": ("int8-qat",)},
    "compress_epochs": {"compress": ("prune",)},
    "compress_rate": {"compress": ("cluster",)},
    "sparsity": {"compress": ("prune",)},
    "clusters": {"compress": ("cluster",)},
    "teacher_seeds": {"seeds": 2},
}


def settings():
    return [
        (f.name, section.name) for section in fields(Config) for f in fields(getattr(Config(), section.name))
    ]


def keys(config, facts=KNOWN):
    return {task.folder for task in plan(config, facts).tasks()}


def by_kind(config, facts=KNOWN):
    kinds = {}
    for task in plan(config, facts).tasks():
        kinds.setdefault(task.kind, []).append(task)
    return kinds


@pytest.mark.parametrize("name, section", settings())
def test_a_setting_changes_a_key_or_is_harmless(name, section):
    before = Config().with_values(BEFORE.get(name, {}))
    if name in HARMLESS:
        assert name not in CHANGES
        return
    assert name in CHANGES, f"say in this test what --{name} changes, or why it changes no stage"
    after = before.with_values({name: CHANGES[name]})
    assert getattr(getattr(after, section), name) != getattr(getattr(before, section), name)
    origins = {(t, s): o for (t, _), o in KNOWN.origins.items() for s in (0, 1, 3)}
    facts = replace(KNOWN, rules={}, origins=origins, unlabelled="other")
    assert keys(before, facts) != keys(after, facts)


@pytest.mark.parametrize("name", [n for n in HARMLESS if n not in ("data", "class_names", "teachers")])
def test_a_harmless_setting_changes_no_key(name):
    other = {"image_size": 64, "val_fraction": 0.2, "strict": True, "results": "x", "fresh": True}
    other |= {"unlabelled": "x", "store_views": "none", "demo": True, "threads": 2, "accept_versions": True}
    other |= {"log_dir": "x", "tracking": "mlflow", "verify": True, "jobs": 2, "engine": "ray"}
    other |= {"address": "auto", "slurm": ("time=1",)}
    engine = {"address": {"engine": "ray"}, "slurm": {"engine": "slurm"}}.get(name, {})
    assert keys(Config()) == keys(Config().with_values({**engine, name: other[name]}))


@pytest.mark.parametrize(
    "changed",
    [
        {"data": "other"},
        {"versions": {**VERSIONS, "keras": "2.0"}},
        {"versions": {**VERSIONS, "litert-quantizer": "2.0"}},
        {"weight_files": {"vgg16": "sha"}},
        {"origins": {("vgg16", 0): Origin("random", False), ("cnn5", 0): Origin("random", False)}},
    ],
    ids=str,
)
def test_a_fact_changes_the_keys_of_what_depends_on_it(changed):
    assert keys(Config()) != keys(Config(), replace(KNOWN, **changed))


def test_groups_of_test_are_in_the_closing_report_alone_and_in_cards_that_shall_have_them():
    def redone(**settings):
        config = Config().with_values(settings)
        before = {task.name: task.folder for task in plan(config, replace(KNOWN, subgroups="s")).tasks()}
        after = plan(config, replace(KNOWN, subgroups="t")).tasks()
        return {task.name for task in after if task.folder != before[task.name]}

    assert redone() == {"closing-report"}
    reports = {"alone-report", "vgg16-report", "cnn5-report", "closing-report"}
    assert redone(card_subgroups=True) == reports


def test_a_version_redoes_what_depends_on_it_and_nothing_else():
    def folders(package):
        tasks = plan(Config(), replace(KNOWN, versions={**VERSIONS, package: "2.0"})).tasks()
        return {task.name: task.folder for task in tasks}

    old = folders("nothing")
    redone = {name for name, folder in folders("litert-quantizer").items() if folder != old[name]}
    assert {"alone-int8", "alone-int8-evaluation", "alone-report"} <= redone
    assert not {"views", "alone-student", "vgg16-whole", "alone-student-evaluation"} & redone
    assert {"alone-student", "vgg16-whole", "alone-int8"} <= {
        name for name, folder in folders("keras").items() if folder != old[name]
    }


def test_litert_labels_where_its_row_says_so_or_where_it_is_asked_for():
    """And its version is in the keys of those labels alone."""
    facts = replace(FACTS, teachers=("vgg16", "mobilenet"), unlabelled="u")
    facts = replace(facts, origins=dict.fromkeys((("vgg16", 0), ("mobilenet", 0)), Origin("there", True)))
    newer = replace(facts, versions={**VERSIONS, "ai-edge-litert": "2.0"})
    own = [f"mobilenet-{name}" for name in ("features", "labels", "unlabelled-labels")]

    def labelled(facts, **settings):
        tasks = plan(Config().with_values(settings), facts).tasks()
        return {task.name: task for task in tasks if task.kind in ("features", "labels", "unlabelled-labels")}

    before, after = labelled(facts), labelled(newer)
    assert [name for name in before if before[name].settings.get("labeller")] == own
    assert [name for name in before if before[name].key != after[name].key] == own
    assert {task.settings["labeller"] for task in labelled(facts, labeller="litert").values()} == {"litert"}
    by_keras = labelled(facts, labeller="keras")
    assert not any("labeller" in task.settings for task in by_keras.values())
    assert by_keras["vgg16-labels"].key == before["vgg16-labels"].key
    for name in ("openvino", "openvino-bf16"):  # the precision is in the key, and that package's version
        own, updated = (
            labelled(f, labeller=name)
            for f in (facts, replace(facts, versions={**VERSIONS, "openvino": "2.0"}))
        )
        assert {task.settings["labeller"] for task in own.values()} == {name}
        assert not {t.key for t in own.values()} & {t.key for t in updated.values()}
        assert {t.key for t in own.values()} == {t.key for t in labelled(newer, labeller=name).values()}
    frozen = labelled(facts, labeller="litert", freeze=True, fine_tune_epochs=0)
    assert "labeller" not in frozen["mobilenet-labels"].settings  # of features that LiteRT made


def test_the_code_of_a_kind_is_in_its_keys(monkeypatch):
    before = by_kind(Config())
    monkeypatch.setitem(KINDS, "student", replace(KINDS["student"], version=KINDS["student"].version + 1))
    after = by_kind(Config())
    assert {t.key for t in before["student"]}.isdisjoint(t.key for t in after["student"])
    assert {t.key for t in before["file"]}.isdisjoint(t.key for t in after["file"])  # made of students
    assert [t.key for t in before["whole"]] == [t.key for t in after["whole"]]


@pytest.mark.parametrize("kind", [kind for kind in KINDS if not kind.endswith("-report")])
def test_every_kind_has_its_function(kind):
    assert callable(KINDS[kind].load())


def test_a_plan_ends_where_it_cannot_know_further():
    kinds = by_kind(Config(), FACTS)
    assert [task.name for task in kinds["origin"]] == ["vgg16-origin", "cnn5-origin"]
    assert "whole" not in kinds and "run-report" not in kinds
    assert [task.name for task in kinds["student"]] == ["alone-student"]  # it needs no teacher
    assert [task.name for task in by_kind(Config())["run-report"]] == ["closing-report"]


def test_pretrained_teachers_have_a_head_first_and_random_ones_not():
    names = {task.name for task in plan(Config(), KNOWN).tasks()}
    assert {"vgg16-features", "vgg16-head", "vgg16-whole"} <= names
    assert "cnn5-whole" in names and not {"cnn5-features", "cnn5-head"} & names


def test_rules_are_tried_on_the_first_seed_and_the_chosen_one_is_repeated():
    config = Config().with_values({"alphas": (0.1, 0.5), "temperatures": (2.0, 4.0), "seeds": 2})
    tried = next(group for group in plan(config, KNOWN).groups if group.name == "cnn5")
    rules = [student.rule for student in tried.candidates]
    assert rules == [Rule(a, t) for a in (0.1, 0.5) for t in (2.0, 4.0)]
    assert not tried.students and tried.report is None
    chosen = replace(KNOWN, rules={"cnn5": rules[2], "vgg16": rules[0]})
    group = next(group for group in plan(config, chosen).groups if group.name == "cnn5")
    assert [(s.seed, s.rule) for s in group.students] == [(0, rules[2]), (1, rules[2])]
    assert group.students[0].student.key == tried.candidates[2].student.key  # trained once


def test_a_float_layer_is_planned_once_it_is_known_that_int8_loses():
    config = Config().with_values({"mixed": True, "recipes": ("int8",)})
    alone = plan(config, KNOWN).groups[0]
    assert not alone.students[0].complete and alone.report is None
    layers = {group.students[0].student.key: None for group in plan(config, KNOWN).groups}
    lossy = replace(KNOWN, lossy_layers={**layers, alone.students[0].student.key: "tensor"})
    alone, vgg16, _ = plan(config, lossy).groups
    assert list(alone.students[0].files) == ["int8", "int8-mixed"]
    assert alone.students[0].files["int8-mixed"][0].settings["in_float"] == "tensor"
    assert list(vgg16.students[0].files) == ["int8"]


def test_a_student_is_taught_by_the_teacher_of_its_seed():
    config = Config().with_values({"seeds": 2, "teacher_seeds": True})
    facts = replace(KNOWN, origins={(t, s): Origin("random", False) for t in FACTS.teachers for s in (0, 1)})
    group = plan(config, facts).groups[1]
    for teacher, student in zip(group.teachers, group.students, strict=True):
        assert student.student.inputs["labels"] is teacher.labels and student.seed == teacher.seed


def test_unlabelled_images_add_a_group_of_students_at_the_same_budget():
    config = Config().with_values({"seeds": 2, "unlabelled_share": 0.25})
    groups = {group.name: group for group in plan(config, replace(KNOWN, unlabelled="u")).groups}
    assert list(groups) == ["alone", "vgg16", "vgg16-unlabelled", "cnn5", "cnn5-unlabelled"]
    with_labels, without = groups["vgg16"], groups["vgg16-unlabelled"]
    assert without.source == "vgg16" and not without.teachers
    for one, other in zip(with_labels.students, without.students, strict=True):
        a, b = one.student.settings["training"], other.student.settings["training"]
        assert (a.unlabelled_share, b.unlabelled_share) == (0.0, 0.25)
        assert replace(b, unlabelled_share=0.0) == a and one.rule == other.rule
        assert other.student.inputs["labels"] is one.student.inputs["labels"]
    # what is trained without them does not wait for them, and stands when they change
    for changed in ({"unlabelled": ""}, {"unlabelled": "others"}):
        again = {group.name: group for group in plan(config, replace(KNOWN, **changed)).groups}
        assert again["vgg16"].students[0].student.key == with_labels.students[0].student.key
    others = {t.key for t in without.tasks()} & keys_of(config, replace(KNOWN, unlabelled="v"), "student")
    assert not others


def test_an_ensemble_is_one_more_teacher_of_the_others_labels():
    config = Config().with_values({"ensemble": True, "temperature": 3.0})
    group = plan(config, KNOWN).groups[-1]
    assert group.name == "ensemble" and group.attention is None
    (teacher,) = group.teachers
    assert teacher.labels.settings == {"temperature": 3.0}
    others = [t.labels for own in plan(config, KNOWN).groups for t in own.teachers if own.name != "ensemble"]
    assert [t.key for t in teacher.labels.inputs.values()] == [t.key for t in others]
    assert group.students[0].student.inputs["labels"].key == teacher.labels.key


def test_an_ensembles_labels_are_of_the_temperature_of_its_rule():
    config = Config().with_values({"ensemble": True, "temperatures": (2.0, 5.0)})
    group = plan(config, KNOWN).groups[-1]
    taught = {s.rule.temperature: s.student.inputs["labels"].settings for s in group.candidates}
    assert taught == {2.0: {"temperature": 2.0}, 5.0: {"temperature": 5.0}}


@pytest.mark.parametrize("loss, temperature", [("kd", 3.0), ("soft-ce", 1.0), ("logit-mse", 1.0)])
def test_an_ensemble_is_softened_only_for_a_loss_that_softens(loss, temperature):
    config = Config().with_values({"ensemble": True, "temperature": 3.0, "loss": loss})
    student = plan(config, KNOWN).groups[-1].students[0].student
    assert student.inputs["labels"].settings == {"temperature": temperature}


@pytest.mark.parametrize("changed", [{"alpha": 1.0}, {"alpha": 0.0, "loss": "soft-ce"}])
def test_nothing_is_learned_from_unlabelled_images_where_the_teacher_has_no_weight(changed):
    groups = plan(Config().with_values(changed), replace(KNOWN, unlabelled="u")).groups
    assert [group.name for group in groups] == ["alone", "vgg16", "cnn5"]


def test_unlabelled_images_that_are_all_left_out_are_not_planned_for():
    whole = plan(Config(), replace(KNOWN, unlabelled="u", all_left_out=True))
    assert whole.report and whole.unlabelled is None
    assert [group.name for group in whole.groups] == ["alone", "vgg16", "cnn5"]
    assert whole.audit.settings["unlabelled"] == "u"


def test_rules_are_tried_on_the_first_network_compared():
    config = Config().with_values({"students": ("cnn3", "dscnn"), "alphas": (0.1, 0.5)})
    before = plan(config, KNOWN)
    (first,), (second,) = ([g for g in gs if g.name == "cnn5"] for gs in before.frontier.values())
    assert [s.student.key for s in first.candidates] == [s.student.key for s in second.candidates]
    facts = replace(KNOWN, rules={t: first.candidates[1].rule for t in KNOWN.teachers})
    group = plan(config, replace(facts, candidate=Candidate("dscnn"))).groups[-1]
    assert {s.network for s in group.candidates} == {"cnn3"}
    assert group.students[0].network == "dscnn" and group.students[0].rule == first.candidates[1].rule


def test_only_compressed_files_depend_on_what_compresses_them():
    kinds = by_kind(Config().with_values({"recipes": ("int8-qat",), "compress": ("prune",)}))
    package = "tensorflow-model-optimization"
    assert package not in kinds["tuned-file"][0].environment
    assert package in kinds["compressed-file"][0].environment


def test_students_are_distilled_from_the_best_teacher_alone_once_it_is_known():
    config = Config().with_values({"best_of": True, "ensemble": True})
    before = plan(config, KNOWN)
    assert before.report is None and not any(g.students for g in before.groups if g.teachers)
    after = plan(config, replace(KNOWN, best_teacher="cnn5"))
    assert [g.name for g in after.groups if g.students] == ["alone", "cnn5"]
    assert after.report and all(group.report for group in after.groups)


def test_several_networks_and_sides_are_compared_before_one_is_gone_on_with():
    config = Config().with_values({"students": ("cnn3", "cnn5"), "sides": (16, 32), "seeds": 2})
    before = plan(config, KNOWN)
    four = [Candidate(network, side) for network in ("cnn3", "cnn5") for side in (16, 32)]
    assert list(before.frontier) == four and not before.groups and before.report is None
    trained = [t for t in before.tasks() if t.kind == "student"]
    assert len({t.key for t in trained}) == 4 * 2 * 3  # seeds, alone and two teachers
    whole = {t.key for t in before.tasks() if t.kind == "whole"}
    assert len(whole) == 2  # the teachers are trained once, whatever the students are
    after = plan(config, replace(KNOWN, candidate=four[2]))
    assert after.report and after.frontier == before.frontier
    for group, compared in zip(after.groups, before.frontier[four[2]], strict=True):
        assert [s.student.key for s in group.students] == [s.student.key for s in compared.students]
    assert after.datasheet.settings["side"] == 16
    assert {t.folder for t in before.tasks()} <= {t.folder for t in after.tasks()} | {before.datasheet.folder}


def test_every_recipe_can_be_planned():
    recipes = tuple(name for name, row in RECIPES.items() if row.selectable)
    kinds = by_kind(Config().with_values({"recipes": recipes}))
    made = {t.settings["recipe"] for kind in ("file", "tuned-file", "compressed-file") for t in kinds[kind]}
    assert made == set(recipes)


def test_tasks_are_values():
    for task in plan(Config(), KNOWN).tasks():
        copy = pickle.loads(pickle.dumps(task))
        assert copy == task and copy.key == task.key


def test_what_a_task_is_made_of_comes_before_it():
    ready = set()
    config = Config().with_values({"seeds": 2, "ensemble": True})
    for task in plan(config, replace(KNOWN, unlabelled="u")).tasks():
        assert all(needed.folder in ready for needed in task.inputs.values()), task.name
        ready.add(task.folder)


def test_a_toy_stage_is_a_row_and_a_function(monkeypatch, tmp_path):
    """What docs/design.md promises: a new stage touches its kind and its function, and is found again."""
    import kdtf.runs.data
    from kdtf.progress import Progress
    from kdtf.runs.kinds import Kind
    from kdtf.runs.perform import perform
    from kdtf.store import Store
    from kdtf.tasks import Task

    def toy(space, text):
        (space.folder / "toy.txt").write_text(text)

    monkeypatch.setattr(kdtf.runs.data, "toy", toy, raising=False)
    monkeypatch.setitem(KINDS, "toy", Kind("data.toy", ("numpy",)))
    task = Task("toy", "toy", {"text": "hello"})
    first, again = (perform(task, Store(tmp_path), None, Progress()) for _ in range(2))
    assert (first.path / "toy.txt").read_text() == "hello" and (first.reused, again.reused) == (False, True)


def test_a_toy_setting_of_the_views_is_one_field():
    """Its flag, its rule and its place in a key: the views' task takes their whole section."""

    @dataclass(frozen=True)
    class ToyViews(ViewConfig):
        """views: as they are, and a toy"""

        toy: float = option(0.5, "how much of a toy", "F")

    parser = new_parser("", "", "")
    add_section(parser, ToyViews())
    assert vars(parser.parse_args(["--toy", "0.7"])) == {"toy": 0.7}
    before = replace(Config(), views=ToyViews())
    after = before.with_values({"toy": 0.7})
    with pytest.raises(UserError, match=r"^--toy must be of type float\. Got 'x'\.$"):
        before.with_values({"toy": "x"})
    assert by_kind(after)["views"][0].settings["policy"].toy == 0.7
    assert by_kind(after)["views"][0].key != by_kind(before)["views"][0].key


def keys_of(config, facts, kind):
    return {task.key for task in plan(config, facts).tasks() if task.kind == kind}


@pytest.mark.parametrize("kind", ["features", "head", "labels", "teacher-evaluation", "student"])
def test_where_a_teachers_weights_came_from_is_in_its_keys(kind):
    """Also where nothing else of the plan depends on it."""
    config = Config().with_values({"freeze": True, "fine_tune_epochs": 0, "teachers": ("cnn5",)})
    found = [Origin("ImageNet weights", True), Origin("random weights", False), Origin("another file", True)]
    facts = [replace(FACTS, teachers=("cnn5",), origins={("cnn5", 0): origin}) for origin in found]
    alone = keys_of(config, replace(facts[0], teachers=()), kind)
    keys = [keys_of(config, own, kind) - alone for own in facts]
    assert all(keys) and not (keys[0] & keys[1] | keys[0] & keys[2] | keys[1] & keys[2])


def test_a_weights_file_is_known_by_its_bytes_and_not_by_its_place():
    facts = replace(KNOWN, weight_files={"vgg16": "sha", "cnn5": "other"})
    here, there = (Config().with_values({"weights": path}) for path in ("weights", "./elsewhere/weights"))
    assert keys(here, facts) == keys(there, facts) != keys(here, KNOWN)
    (origin,) = (t for t in plan(there, facts).tasks() if t.name == "vgg16-origin")
    assert origin.settings["network"].weights.source == "./elsewhere/weights"
    assert "elsewhere" not in str(origin.note())


def test_how_images_were_prepared_is_in_the_key_of_the_data_sheet():
    sheets = [
        keys_of(Config(), replace(KNOWN, **changed), "datasheet")
        for changed in ({}, {"synthetic": True}, {"prepared": {"side": 32}}, {"classes": ("x", "y")})
    ]
    assert len(set.union(*sheets)) == 4


def test_views_of_another_kind_redo_no_origin():
    other = Config().with_values({"rotate": 3.0})
    assert keys_of(Config(), KNOWN, "origin") == keys_of(other, KNOWN, "origin")
    assert keys_of(Config(), KNOWN, "whole").isdisjoint(keys_of(other, KNOWN, "whole"))


def test_a_cut_is_planned_once_its_block_is_known():
    config = Config().with_values({"student": "cut:mobilenetv2", "recipes": ("int8",)})
    first = plan(config, KNOWN)
    assert [t.kind for t in first.tasks()] == ["audit", "datasheet", "views", "cut"] and not first.groups
    facts = replace(
        KNOWN, cuts={Candidate("cut:mobilenetv2"): "cut:mobilenetv2:6"}, weight_files={"mobilenetv2": "sha"}
    )
    student = plan(config, facts).groups[0].students[0].student
    network = student.settings["network"]
    assert network.name == "cut:mobilenetv2:6" and network.weights.file == "sha"
    named = Config().with_values({"student": "cut:mobilenetv2:6", "recipes": ("int8",)})
    assert plan(named, facts).groups[0].students[0].student.key == student.key


def test_other_students_do_not_depend_on_the_weights_of_teachers():
    other = Config().with_values({"weights": "none"})
    alone = [plan(config, KNOWN).groups[0].students[0].student.key for config in (Config(), other)]
    assert alone[0] == alone[1]


@pytest.mark.parametrize("values", [{}, {"freeze": True, "fine_tune_epochs": 0}], ids=["whole", "frozen"])
def test_a_loss_on_features_has_them_cached_and_changes_no_other_key(values):
    """Of a teacher the labels alone, and what is made of them."""
    config, facts = Config().with_values(values), replace(KNOWN, unlabelled="u")
    logits, features = (
        {task.name: task for task in plan(config.with_values({"loss": loss}), facts).tasks()}
        for loss in ("kd", "fitnet")
    )
    changed = {name for name, task in features.items() if task.key != logits[name].key}
    teachers = ("vgg16", "cnn5")
    stages = ("labels", "unlabelled-labels", "student")
    assert {f"{name}-{stage}" for name in teachers for stage in stages} <= changed
    stages = ("origin", "features", "head", "whole", "evaluation")
    assert not changed & {f"{name}-{stage}" for name in teachers for stage in stages}
    assert not any(name.startswith("alone-") for name in changed)
    for name in ("vgg16-labels", "cnn5-unlabelled-labels"):
        assert "features" not in logits[name].settings and features[name].settings["features"] is True


@pytest.mark.parametrize("loss", ["kd", "soft-ce", "dkd", "dist", "logit-mse"])
def test_losses_on_logits_share_a_teachers_labels(loss):
    config = Config().with_values({"loss": loss})
    assert keys_of(config, KNOWN, "labels") == keys_of(Config(), KNOWN, "labels")


def test_an_ensemble_has_no_features_to_give():
    from kdtf.runs.check import check_names

    config = Config().with_values({"ensemble": True, "teachers": ("vgg16", "cnn5"), "loss": "fitnet"})
    rule = "a loss on logits alone with --ensemble, whose teachers have no features in common"
    with pytest.raises(UserError, match=rf"^--loss must be {rule}\. Got 'fitnet'\.$"):
        check_names(config)
    check_names(config.with_values({"ensemble": False, "loss_options": ("hint=2",)}))
    rule = r"options of fitnet \(hint\)"
    with pytest.raises(UserError, match=rf"^--loss-options must be {rule}\. Got 'beta'\.$"):
        check_names(config.with_values({"ensemble": False, "loss_options": ("beta=2",)}))
