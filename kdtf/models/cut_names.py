"""The names of students cut from pretrained networks: `cut:NETWORK:BLOCK[:PART]`.

`cut:NETWORK` and `cut:NETWORK::PART` leave the block to a budget. Imports nothing heavy: the plan of a run
reads names.
"""

PREFIX = "cut:"


def is_cut(name: str) -> bool:
    """Whether a student's name is that of a cut network."""
    return name.startswith(PREFIX)


def parts_of(name: str) -> tuple[str, str, str]:
    """(network, block and part of the channels as they are written, or "") of the name of a cut network."""
    network, _, rest = name.removeprefix(PREFIX).partition(":")
    block, _, part = rest.partition(":")
    return network, block, part


def after_block(name: str, block: int) -> str:
    """The name of the same network cut after a block, counted from 1."""
    network, _, part = parts_of(name)
    return PREFIX + ":".join((network, str(block), *([part] if part else [])))


def needs_budget(name: str) -> bool:
    """Whether the block of a cut network is left to a budget."""
    return is_cut(name) and not parts_of(name)[1]
