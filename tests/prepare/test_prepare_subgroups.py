"""Groups that `prepare` writes beside the arrays: from a table, from DICOM tags, and from neither unasked."""

import json

import numpy as np
import pytest
from recorder import Recorder
from sources import noise, read, refused, run, save, tree
from test_prepare_dicom import PATIENT, write

from kdtf.data.load import load
from kdtf.errors import UserError
from kdtf.prepare.settings import PrepareConfig
from kdtf.prepare.tags import TAGS, age_band

TABLE = "file,sex,site\n"


def groups(out, split, column):
    lines = (out / f"subgroups_{split}.csv").read_text(encoding="utf-8").splitlines()
    at = lines[0].split(",").index(column)
    return [line.split(",")[at] for line in lines[1:]]


def table(tmp_path, text):
    (tmp_path / "who.csv").write_text(text, encoding="utf-8")
    return str(tmp_path / "who.csv")


def test_a_table_by_path_and_the_rest_is_unknown_and_told(source, out, tmp_path):
    rows = [
        f"{s}/{c}/{n}.png,{'FM'[n % 2]},{s} {n}" for s in ("train", "test") for c in "ab" for n in range(3)
    ]
    recorder = Recorder()
    run(source, out, recorder, subgroups=table(tmp_path, TABLE + "\n".join(rows)))
    assert groups(out, "train", "sex") == ["F", "M", "F"] * 2
    assert groups(out, "test", "site") == [f"test {n}" for _ in "ab" for n in range(3)]
    assert groups(out, "val", "sex") == ["unknown"] * 6
    assert "6 of 18 images, 'val/a/0.png' among them, are not in who.csv: their groups are unknown." in (
        recorder.warnings
    )
    assert "Groups by sex: F 8, unknown 6, M 4." in recorder.said
    note = json.loads((out / "provenance.json").read_text())
    assert note["settings"]["subgroups"] == "who.csv" and note["subgroups"] == ["sex", "site"]
    assert note["kept_of_headers"] == [] and "subgroups_val.csv" in note["sha256"]
    loaded = load(out, tmp_path / "work")
    assert [own.column for own in loaded.test.subgroups] == ["sex", "site"]
    assert loaded.ground_truth.in_train[0] == (4, 2, 0)


def test_a_table_by_bare_name(tmp_path, out):
    names = [f"{split}{label}{n}.png" for split in ("train", "test") for label in "ab" for n in range(2)]
    for i, name in enumerate(names):
        save(tmp_path / "in" / name[:-6] / name[-6] / name, noise(i))
    rows = "\n".join(f"g{name[-5]},{name}" for name in names)
    run(tmp_path / "in", out, subgroups=table(tmp_path, f"sex,file\n{rows}"))
    assert groups(out, "train", "sex") == ["g0", "g1"] * 2


BAD = {
    "file,sex\n0.png,F": "files in who.csv must be paths in the source where several files have one name.",
    "file,sex\nother.png,F": "--subgroups must be a table with rows for images of the source.",
    "name,sex\n0.png,F": "--subgroups must be a CSV file with a column file and others. Got ['name', 'sex'].",
    "file\n0.png": "--subgroups must be a CSV file with a column file and others.",
    "file,sex\ntrain/a/0.png": "line 2 of who.csv must be of 2 cells. Got 1.",
    "file,sex\ntrain/a/0.png,F\ntrain/a/0.png,M": "'train/a/0.png' in who.csv must be one row, or rows",
    "": "who.csv must be a table with a header.",
}


@pytest.mark.parametrize("text, message", BAD.items(), ids=range(len(BAD)))
def test_a_table_that_cannot_be_used_is_refused_in_one_line(text, message, source, out, tmp_path):
    refused(source, out, message, subgroups=table(tmp_path, text))


def test_too_many_groups_are_refused_before_anything_is_written(tmp_path, out):
    source = tree(tmp_path / "in", each=9)
    files = sorted(p.relative_to(source).as_posix() for p in source.rglob("*.png"))
    text = "file,id\n" + "\n".join(f"{file},{i}" for i, file in enumerate(files))
    refused(source, out, "groups of 'id' must be at most 50. Got 54.", subgroups=table(tmp_path, text))


@pytest.fixture
def scans(tmp_path):
    """Slices with headers; the first has no sex, the second no age that can be read."""
    for split in ("train", "test"):
        for i, name in enumerate(("a", "b", "a", "b")):
            own = {"PatientSex": "FM"[i // 2], "PatientAge": f"{43 + 27 * (i // 2):03d}Y", "KVP": "120.0"}
            own |= {"PatientSex": None} if i == 0 else {}
            own |= {"PatientAge": "young"} if i == 1 else {}
            own = {key: value for key, value in own.items() if value is not None}
            write(
                tmp_path / "scans" / split / name / f"{i}.dcm",
                np.full((8, 8), 100 * i + 1, np.uint16),
                Manufacturer="A;B",
                PatientBirthDate="19800229",
                **own,
            )
    return tmp_path / "scans"


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_tags_that_are_asked_for_are_kept_and_nothing_else(scans, out):
    run(scans, out, subgroup_tags=("PatientSex", "PatientAge", "KVP", "ViewPosition"))
    assert groups(out, "train", "PatientSex") == ["unknown", "M", "F", "M"]  # a0, a2, b1, b3
    assert groups(out, "test", "PatientAge") == ["40-49", "70-79", "unknown", "70-79"]
    assert set(groups(out, "test", "KVP")) == {"120"} and set(groups(out, "test", "ViewPosition")) == {
        "unknown"
    }
    note = json.loads((out / "provenance.json").read_text())
    assert note["kept_of_headers"] == ["PatientSex", "PatientAge", "KVP", "ViewPosition"]
    texts = b"".join(p.read_bytes() for p in out.iterdir())
    assert not any(word in texts for word in (PATIENT.encode(), b"19800229", b"043Y", b"A;B"))


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_unasked_there_is_no_table(scans, out):
    run(scans, out)
    assert not list(out.glob("subgroups*"))
    assert json.loads((out / "provenance.json").read_text())["kept_of_headers"] == []


@pytest.mark.parametrize(
    "tag", ["PatientID", "PatientName", "PatientBirthDate", "StudyInstanceUID", "InstitutionName", "Sex"]
)
def test_what_finds_a_person_is_no_tag_to_keep(tag):
    with pytest.raises(
        UserError, match=f"--subgroup-tags must be some of PatientSex, .* Got '{tag}'. Names,"
    ):
        PrepareConfig(subgroup_tags=(tag,))
    assert not any(
        word in tag for tag in TAGS for word in ("Name", "ID", "Date", "UID", "Time") if "Model" not in tag
    )


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_tags_need_dicom_files_and_differ_from_the_columns_of_a_table(source, out, tmp_path, scans):
    refused(
        source, out, "--subgroup-tags must be given where the source has DICOM files.", subgroup_tags=("KVP",)
    )
    text = "file,KVP\n" + "\n".join(
        f"{s}/{c}/{i}.dcm,1" for s in ("train", "test") for i, c in enumerate("abab")
    )
    message = "columns of --subgroups and --subgroup-tags must be names that all differ. Got ['KVP']."
    refused(scans, out, message, subgroup_tags=("KVP",), subgroups=table(tmp_path, text))


@pytest.mark.parametrize(
    "age, band",
    {
        "045Y": "40-49", "000Y": "0-9", "009Y": "0-9", "010Y": "10-19", "089Y": "80-89", "090Y": "90+",
        "104Y": "90+", "018M": "0-9", "130M": "10-19", "003W": "0-9", "010D": "0-9", "45Y": "40-49",
        " 045Y ": "40-49", "": "unknown", "45": "unknown", "Y": "unknown", "-45Y": "unknown",
        "\u0664\u0665\u0666Y": "unknown", "0045Y": "unknown",
    }.items(),
)  # fmt: skip
def test_ages_are_decades(age, band):
    assert age_band(age) == band


def test_what_lies_beside_an_npz_is_carried_on(tmp_path, out):
    arrays = {f"x_{s}": np.zeros((n, 8, 8), np.uint8) + np.arange(n, dtype=np.uint8)[:, None, None]
              for s, n in (("train", 40), ("test", 6))}  # fmt: skip
    np.savez(tmp_path / "d.npz", **arrays, y_train=np.arange(40) % 2, y_test=np.arange(6) % 2)
    for split, n in (("train", 40), ("test", 6)):
        lines = "\n".join(f"g{i // 10}" for i in range(n))
        (tmp_path / f"d_subgroups_{split}.csv").write_text(f"site\n{lines}\n")
    run(tmp_path / "d.npz", out)
    for split in ("train", "val", "test"):
        rows = read(out, f"X_{split}")[:, 0, 0, 0]
        assert groups(out, split, "site") == [f"g{i // 10}" for i in rows]
    refused(tmp_path / "d.npz", tmp_path / "o", "--subgroups must be left out where the source is an .npz",
            subgroups="x.csv")  # fmt: skip


def test_a_table_of_the_users_own_is_not_lost(source, out):
    run(source, out)
    (out / "subgroups_test.csv").write_text("sex\n" + "F\n" * 6)
    refused(
        source,
        out,
        "--out must be a folder without arrays, or with those of an earlier prepare. Got*subgroups",
    )
