"""What Prometheus reads of a server: counts, sums and a histogram, as text of its exposition format 0.0.4.

Nothing of a single request: classes are counted over all of them.
"""

from collections import Counter
from collections.abc import Iterator, Mapping

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)  # seconds


class Metrics:
    """Counts of one server since it began."""

    def __init__(self) -> None:
        self.requests: Counter[tuple[str, int]] = Counter()  # by route and status
        self.answers: Counter[str] = Counter()  # by class
        self.remarks: Counter[str] = Counter({"uncertain": 0, "warning": 0})
        self.received_bytes = 0
        self.seconds = 0.0
        self._within: Counter[float] = Counter()

    def count_request(self, route: str, status: int, seconds: float, received: int) -> None:
        """A request that has been answered; its time counts where it is one for an answer."""
        self.requests[route, status] += 1
        self.received_bytes += received
        if (route, status) == ("/predict", 200):
            self.seconds += seconds
            self._within[next((bound for bound in BOUNDS if seconds <= bound), float("inf"))] += 1

    def count_answer(self, answer: Mapping[str, object]) -> None:
        """What the student said of an image."""
        self.answers[str(answer["class"])] += 1
        self.remarks["uncertain"] += bool(answer["uncertain"])
        self.remarks["warning"] += bool(answer["warning"])

    def text(self, gauges: Mapping[str, tuple[str, float]]) -> str:
        """All of it; `gauges` are {name: (what it is, value)} of the moment."""
        lines: list[str] = []
        for (route, status), count in sorted(self.requests.items()):
            lines.append(_line("requests_total", count, route=route, status=str(status)))
        parts = [_block("requests_total", "counter", "Requests by route and status.", lines)]
        lines = [_line("answers_total", count, **{"class": name}) for name, count in self.answers.items()]
        parts.append(_block("answers_total", "counter", "Images by the class named.", lines))
        lines = [_line("remarks_total", count, remark=name) for name, count in self.remarks.items()]
        parts.append(_block("remarks_total", "counter", "Images that are uncertain, or warned of.", lines))
        lines = [_line("received_bytes_total", self.received_bytes)]
        parts.append(_block("received_bytes_total", "counter", "Bytes of bodies.", lines))
        lines = list(self._histogram())
        parts.append(_block("predict_seconds", "histogram", "Seconds to an answer.", lines))
        for name, (what, value) in gauges.items():
            parts.append(_block(name, "gauge", what, [_line(name, value)]))
        return "".join(parts)

    def _histogram(self) -> Iterator[str]:
        total = 0
        for bound in (*BOUNDS, float("inf")):
            total += self._within[bound]
            yield _line("predict_seconds_bucket", total, le="+Inf" if bound > BOUNDS[-1] else f"{bound:g}")
        yield _line("predict_seconds_sum", self.seconds)
        yield _line("predict_seconds_count", total)


def _block(name: str, kind: str, what: str, lines: list[str]) -> str:
    return f"# HELP kdtf_{name} {what}\n# TYPE kdtf_{name} {kind}\n" + "".join(lines)


def _line(name: str, value: float, **labels: str) -> str:
    inner = ",".join(f'{label}="{_escaped(text)}"' for label, text in labels.items())
    return f"kdtf_{name}{f'{{{inner}}}' if inner else ''} {value:.10g}\n"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
