"""Numbers in sentences."""


def plural(number: int, noun: str, several: str = "") -> str:
    """The noun as it follows a number: "image" after 1, else "images", or `several` where no s makes it so.

    >>> [f"{n} {plural(n, 'class', 'classes')}" for n in (0, 1, 2)]
    ['0 classes', '1 class', '2 classes']
    """
    return noun if number == 1 else several or f"{noun}s"
