"""The names of students cut from pretrained networks: `cut:NETWORK:BLOCK[:PART]`.

`cut:NETWORK` and `cut:NETWORK::PART` leave the block to a budget. `*` in the place of a block stands for all
that the budget allows, in the place of a part for those of `PARTS`. Imports nothing heavy: the plan of a run
reads names.
"""

PREFIX = "cut:"
ANY = "*"
PARTS = ("0.25", "0.5", "0.75", "")  # of the channels, "" for all


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
    return _joined(network, str(block), part)


def needs_budget(name: str) -> bool:
    """Whether the block of a cut network is left to a budget."""
    return is_cut(name) and not parts_of(name)[1]


def with_parts(name: str) -> list[str]:
    """What a name with any part stands for, the block as it is written; of any other the name itself."""
    if not is_cut(name) or parts_of(name)[2] != ANY:
        return [name]
    network, block, _ = parts_of(name)
    return [_joined(network, block, part) for part in PARTS]


def has_any_block(name: str) -> bool:
    """Whether a name stands for all blocks of a network that a budget allows."""
    return is_cut(name) and parts_of(name)[1] == ANY


def to_budget(name: str) -> str:
    """What stands for any block with its block left to a budget, which is the last; any other name itself."""
    if not has_any_block(name):
        return name
    network, _, part = parts_of(name)
    return _joined(network, "", part)


def up_to(name: str) -> list[str]:
    """The names of a network cut after each block up to its own."""
    return [after_block(name, block) for block in range(1, int(parts_of(name)[1]) + 1)]


def _joined(network: str, block: str, part: str) -> str:
    return PREFIX + ":".join((network, *([block] if block or part else []), *([part] if part else [])))
