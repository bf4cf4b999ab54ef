"""Metrics as Prometheus reads them."""

import re

from kdtf.serve.metrics import BOUNDS, Metrics

ANSWER = {"class": 'a "b"\\\n', "uncertain": True, "warning": ""}


def samples(text):
    """{name with labels: value}; every line that is no comment must be one."""
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    found = [re.fullmatch(r'(kdtf_\w+(?:\{(?:\w+="(?:[^"\\\n]|\\.)*",?)+\})?) (\S+)', line) for line in lines]
    assert all(found), text
    return {match[1]: float(match[2]) for match in found}


def test_counts_and_the_histogram():
    metrics = Metrics()
    for seconds in (0.004, 0.005, 0.3, 99):
        metrics.count_request("/predict", 200, seconds, 10)
    metrics.count_request("/predict", 422, 1.0, 5)
    metrics.count_answer(ANSWER)
    values = samples(metrics.text({"workers": ("Processes.", 2)}))
    assert values['kdtf_requests_total{route="/predict",status="200"}'] == 4
    assert values['kdtf_requests_total{route="/predict",status="422"}'] == 1
    assert values["kdtf_received_bytes_total"] == 45 and values["kdtf_workers"] == 2
    assert values['kdtf_answers_total{class="a \\"b\\"\\\\\\n"}'] == 1
    assert values['kdtf_remarks_total{remark="uncertain"}'] == 1
    assert values['kdtf_remarks_total{remark="warning"}'] == 0
    buckets = [value for name, value in values.items() if "_bucket" in name]
    assert buckets == [2] + [2] * BOUNDS.index(0.25) + [3] * (len(BOUNDS) - BOUNDS.index(0.5)) + [4]
    assert values["kdtf_predict_seconds_count"] == 4
    assert abs(values["kdtf_predict_seconds_sum"] - 99.309) < 1e-9


def test_every_metric_says_what_it_is():
    text = Metrics().text({})
    names = set(re.findall(r"^# TYPE (\w+) \w+$", text, re.MULTILINE))
    assert names == set(re.findall(r"^# HELP (\w+) \S", text, re.MULTILINE)) and len(names) == 5
