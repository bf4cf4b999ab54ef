"""The names of students cut from pretrained networks: `cut:NETWORK:BLOCK`, or `cut:NETWORK` for a budget.

Imports nothing heavy: the plan of a run reads names.
"""

PREFIX = "cut:"


def is_cut(name: str) -> bool:
    """Whether a student's name is that of a cut network."""
    return name.startswith(PREFIX)


def parts_of(name: str) -> tuple[str, str]:
    """(network, block as it is written or "") of the name of a cut network."""
    network, _, block = name.removeprefix(PREFIX).partition(":")
    return network, block


def needs_budget(name: str) -> bool:
    """Whether the block of a cut network is left to a budget."""
    return is_cut(name) and not parts_of(name)[1]
