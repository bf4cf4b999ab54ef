"""The small files of all candidates of a run, read back to be compared and to choose among."""

import json
from collections.abc import Mapping, Sequence

from ..records import FrontierFile
from ..store import Store
from ..tflite.bench import Graph
from .records import Candidate, Group, StudentTasks
from .results import read_files, read_student
from .stages import MODEL

PREFERRED = "int8"  # the recipe that is compared, or the first one of a run without it


def frontier_files(
    frontier: Mapping[Candidate, Sequence[Group]], store: Store
) -> list[tuple[Candidate, FrontierFile]]:
    """The file of every student of every candidate with all its seeds, each once; baselines not."""
    files = {
        group.students[0].student.key: (candidate, read_frontier_file(group.students, store))
        for candidate, groups in frontier.items()
        for group in groups
        if group.students and group.name != "baseline"
    }
    return list(files.values())


def read_frontier_file(students: Sequence[StudentTasks], store: Store) -> FrontierFile:
    """The files of one student from every seed, by their preferred recipe."""
    files = []
    for tasks in students:
        every = read_files(tasks, read_student(tasks, store, None), store)
        files.append(every[PREFERRED if PREFERRED in every else next(iter(every))])
    graph = Graph((files[0].folder / MODEL).read_bytes())
    costs = graph.macs / 1000, graph.arena_bytes / 1024
    side = json.loads((files[0].folder / MODEL).with_suffix(".json").read_text())["input"]["height"]
    return FrontierFile(files[0].student.network, side, tuple(files), *costs)
