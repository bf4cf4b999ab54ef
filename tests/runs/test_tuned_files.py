"""Files for which a student is fine-tuned, or of which a layer stays in float, join a finished run."""

import json

from small_run import SMALL, stages, table

from kdtf.cli import main
from kdtf.evidence import choose

TUNED = [
    *("--recipes", "int8", "int8-qat", "--compress", "prune", "--mixed"),
    *("--qat-epochs", "1", "--compress-epochs", "2"),
]


def test_fine_tuned_and_mixed_files_join_a_finished_run(small, tiny, monkeypatch, blank):
    monkeypatch.setattr(choose, "lost_by_int8", lambda ours, theirs: 0.02)  # whatever it lost
    before, int8 = stages(small), table(small, "summary.csv").iloc[-1]
    argv = ["--data", str(tiny), "--results", str(small), *SMALL, *TUNED]
    assert main(argv) == 0
    rows = table(small, "summary.csv").query("model == 'distilled'").set_index("recipe")
    assert list(rows.index) == ["keras", "int8", "int8-qat", "int8-prune", "int8-mixed"]
    assert rows.accuracy["int8"] == int8.accuracy and int8.recipe == "int8"  # the stage that stood
    assert rows.sparsity["int8-prune"] > 0.45 > rows.sparsity["int8"]
    assert rows.gzip_kib["int8-prune"] < rows.gzip_kib["int8"] <= rows.size_kib["int8"]
    errors = table(small, "cnn5_quantization_error.csv")
    assert errors.recipe.unique().tolist() == ["int8", "int8-qat", "int8-prune", "int8-mixed"]
    of_int8, of_mixed = (errors.query("recipe == @r").set_index("layer") for r in ("int8", "int8-mixed"))
    bad = of_int8.index[of_int8.worst == 1][0]
    assert of_int8.snr_db[bad] == of_int8.snr_db[of_int8.weighted].min()
    assert of_mixed.weights_snr_db[bad] == 200
    history = table(small, "cnn5_int8-prune_history.csv")
    assert history.epoch.tolist() == [1, 2] and (history.phase == "prune").all()
    warned = json.loads((small / "manifest.json").read_text())["warnings"]
    told = next(w for w in warned if w.startswith("cnn5, seed 0: int8 loses"))
    assert f"the output of {bad} (" in told and "With that layer in float, int8-mixed loses" in told
    page = (small / "report.html").read_text(encoding="utf-8")
    assert "What small files cost" in page and "int8-prune" in page
    after = stages(small)
    trained = {name for name in before if "-student-" in name or "-whole-" in name or "-labels-" in name}
    assert trained and all(after[name] == before[name] for name in trained)
    assert main(argv) == 0 and stages(small) == after
