"""Progress that keeps what is said."""

from kdtf.progress import Progress


class Recorder(Progress):
    """Whose `said` are the lines that a user would see."""

    def __init__(self):
        super().__init__()
        self.said = []

    def say(self, text):
        self.said.append(text)
