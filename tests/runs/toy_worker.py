"""A worker without TensorFlow, in a module that a process of its own imports in no time."""

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

from kdtf.runs.local_pool import VISIBLE
from kdtf.runs.pool import Done


@dataclass
class Toy:
    """Performs a task without TensorFlow, by its name."""

    folder: str

    def logged_outcome(self, task, log, send):
        file = Path(self.folder, task.name)
        send(("stage", task.name))
        match task.name.split("-")[0]:
            case "dies":
                os.kill(os.getpid(), signal.SIGKILL)
            case "waits":
                try:
                    send(("say", "waiting"))
                    time.sleep(60)
                finally:
                    file.write_text("tidy")
        return Done((os.getpid(), {k: v for k, v in os.environ.items() if k == VISIBLE}))
