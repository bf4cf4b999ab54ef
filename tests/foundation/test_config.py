import json
from dataclasses import fields, replace

import pytest

from kdtf.cli.arguments import read_config, run_parser
from kdtf.config import Config
from kdtf.errors import UserError
from kdtf.settings_file import read_toml


def test_flags_are_the_fields_and_their_names_are_unique():
    names = [f.name for s in fields(Config) for f in fields(getattr(Config(), s.name))]
    flags = {action.dest for action in run_parser()._actions} - {
        "help",
        "version",
        "config",
        "preset",
        "status",
    }
    assert len(names) == len(set(names)) and set(names) == flags


def test_every_flag_has_one_line_of_help():
    for section in fields(Config):
        for f in fields(getattr(Config(), section.name)):
            assert f.metadata["help"] and "\n" not in f.metadata["help"], f.name


def test_to_dict_and_back():
    config = Config().with_values({"alpha": 0.1, "teachers": ("vgg16",), "image_size": 32})
    assert Config.from_dict(config.to_dict()) == config


def test_flags_override_the_file_and_the_file_the_defaults(tmp_path):
    file = tmp_path / "c.toml"
    file.write_text("[distil]\nalpha = 0.2\ntemperature = 3\n[teacher]\nteachers = ['vgg19']\n")
    config = read_config(["--config", str(file), "--alpha", "0.3"])
    assert (config.distil.alpha, config.distil.temperature) == (0.3, 3)
    assert config.teacher.teachers == ("vgg19",) and not config.data.demo
    assert replace(config, distil=Config().distil, teacher=Config().teacher) == Config()


def test_a_losss_own_parameters_are_numbers_by_name(tmp_path):
    config = read_config(["--loss-options", "beta=0.5", " gamma = -2e1"])
    assert config.distil.options() == (("beta", 0.5), ("gamma", -20.0))
    assert Config().distil.options() == ()
    file = tmp_path / "c.toml"
    file.write_text("[distil]\nloss_options = ['beta=1']\n")
    assert read_config(["--config", str(file)]).distil.options() == (("beta", 1.0),)


def test_whole_numbers_and_fractions_are_one_setting(tmp_path):
    """As JSON, of which stage keys are made, 2 and 2.0 differ."""
    file = tmp_path / "c.toml"
    file.write_text("[distil]\ntemperature = 4\nalphas = [0, 1]\n[evidence]\nmin_sensitivity = 1\n")
    flags = ["--temperature", "4", "--alphas", "0", "1", "--min-sensitivity", "1"]
    settings = [read_config(argv).to_dict() for argv in (["--config", str(file)], flags)]
    assert json.dumps(settings[0]) == json.dumps(settings[1])
    assert '"temperature": 4.0, ' in json.dumps(settings[0]) and '"epochs": 300,' in json.dumps(settings[0])


def test_the_demo_is_a_setting_with_a_recipe():
    config = read_config(["--demo", "--views", "3"])
    assert config == Config.demo().with_values({"views": 3}) == Config.from_dict(config.to_dict())
    assert config.data.demo and config.teacher.teachers == ("cnn5",) and config.distil.temperature == 4
    assert read_config(["--preset", "demo"]) == Config.demo() and not Config().data.demo


def test_other_versions_are_accepted_where_the_user_says_so():
    assert not Config().run.accept_versions
    assert read_config(["--accept-versions"]).run.accept_versions


BAD = {
    ("--alpha", "1.5"): r"--alpha must be between 0 and 1\. Got 1\.5\.",
    ("--alpha", "-0.1"): r"--alpha must be between 0 and 1\. Got -0\.1\.",
    ("--alpha", "half"): r"argument --alpha: invalid float value: 'half'\. See --help\.",
    ("--temperature", "0"): r"--temperature must be positive\. Got 0\.0\.",
    ("--temperature", "-2"): r"--temperature must be positive\. Got -2\.0\.",
    ("--epochs", "0"): r"--epochs must be at least 1\. Got 0\.",
    ("--batch-size", "0"): r"--batch-size must be at least 1\. Got 0\.",
    ("--views", "0"): r"--views must be at least 1\. Got 0\.",
    ("--val-fraction", "1"): r"--val-fraction must be above 0, at most 0\.5\. Got 1\.0\.",
    ("--image-size", "-4"): r"--image-size must be between 8 and 1024\. Got -4\.",
    ("--image-size", "4"): r"--image-size must be between 8 and 1024\. Got 4\.",
    ("--image-size", "2000"): r"--image-size must be between 8 and 1024\. Got 2000\.",
    ("--temperature", "inf"): r"--temperature must be finite.*\. Got inf\.",
    ("--temperatures", "2", "inf"): r"--temperatures must be finite.*\. Got \(2\.0, inf\)\.",
    ("--batch-size", "9" * 20): r"--batch-size must be .* below 2\^63\. Got 9{20}\.",
    ("--threads", "9" * 9): r"--threads must be at most 1024\. Got 9{9}\.",
    ("--demo", "--data", "D"): r"--demo must be given without --data\. Got 'D'\. Choose one of the two\.",
    ("--calibration-images", "0"): r"--calibration-images must be at least 1\. Got 0\.",
    ("--calibration-seed", "-1"): r"--calibration-seed must be at least 0\. Got -1\.",
    ("--sparsity", "1"): r"--sparsity must be above 0, below 1\. Got 1\.0\.",
    ("--clusters", "1"): r"--clusters must be at least 2\. Got 1\.",
    ("--qat-rate", "0"): r"--qat-rate must be positive\. Got 0\.0\.",
    ("--compress", "prun"): r"--compress must be one of prune, cluster\. Got 'prun'\. Did you mean 'prune'\?",
    ("--seed", "-1"): r"--seed must be at least 0\. Got -1\.",
    ("--loss-options", "beta"): r"--loss-options must be NAME=VALUE, the value a number\. Got 'beta'\.",
    ("--loss-options", "a=1", "b=two"): r"--loss-options must be NAME=VALUE, the value .* Got 'b=two'\.",
    ("--loss-options", "beta=nan"): r"--loss-options must be NAME=VALUE, the value a number\. Got .*",
    ("--demo", "--preset", "chest-ct"): r"--demo must be given without --preset\. Got 'chest-ct'\. .*",
    ("--alhpa", "1"): r"unrecognized arguments: --alhpa 1\. See --help\.",
    ("--teachers",): r"argument --teachers: expected at least one argument\. See --help\.",
}


@pytest.mark.parametrize("argv, text", BAD.items(), ids=" ".join)
def test_bad_flags(argv, text):
    with pytest.raises(UserError, match=f"^{text}$"):
        read_config(list(argv))


@pytest.mark.parametrize(
    "text, message",
    [
        ("alpha = 0.5", r"section must be one of data, views, .*Got 'alpha'\."),
        ("[distill]\nalpha = 0.5", r"section must be one of .*Got 'distill'\. Did you mean 'distil'\?"),
        ("[distil]\nalhpa = 0.5", r"setting in \[distil\] must be one of .*Did you mean 'alpha'\?"),
        ("[distil]\nalpha = 'x'", r"--alpha must be of type float\. Got 'x'\."),
        ("[student]\nepochs = 2.5", r"--epochs must be of type int\. Got 2\.5\."),
        ("[distil]\ntemperature = 1" + "0" * 400, r"--temperature must be of type float\. Got 10+\."),
        ("[distil]\ntemperature = 1" + "0" * 9000, r"--config must be valid TOML\."),
        ("a = " + "[" * 9000, r"--config must be valid TOML\."),
        ("[teacher]\nfreeze = 1", r"--freeze must be of type bool\. Got 1\."),
        ("[teacher]\nteachers = 'vgg16'", r"--teachers must be of type list of str\. Got 'vgg16'\."),
        ("[distil\n", r"--config must be valid TOML\."),
    ],
)
def test_bad_files(tmp_path, text, message):
    file = tmp_path / "c.toml"
    file.write_text(text)
    with pytest.raises(UserError, match=f"^{message}"):
        read_config(["--config", str(file)])


def test_a_missing_file_is_told(tmp_path):
    with pytest.raises(UserError, match=r"^--config must be a readable TOML file\. Got .*No such file"):
        read_toml(tmp_path / "none.toml")
