"""The manifest says which versions of packages made the results, not only which are here now."""

from importlib.metadata import version

from kdtf.runs.close import package_versions
from kdtf.runs.kinds import PACKAGES


def test_the_version_that_made_the_stages_is_told():
    told = package_versions(
        [{"made_with": {"keras": "3.0", "numpy": "2.0"}}, {"made_with": {"keras": "3.0"}}, {}]
    )
    assert (told["keras"], told["numpy"]) == ("3.0", "2.0")
    assert told["scipy"] == version("scipy")  # made nothing: that is here
    assert list(told) == list(PACKAGES)


def test_where_several_did_each_is_told_with_the_number_of_its_stages():
    notes = [{"made_with": {"keras": own}} for own in ("3.1", "3.0", "3.1")]
    assert package_versions(notes)["keras"] == "3.0 (1 stage) and 3.1 (2 stages)"
