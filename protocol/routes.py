"""Which of several orchestrators to speak to: the one that leads, as far as is known."""

from asterism.orchestrator.core.errors import AsterismError, Misconfigured, NotLeading
from asterism.protocol.channel import split_address


class Routes:
    """One address, or several of which one leads; what the others say is followed."""

    def __init__(self, addresses: str) -> None:
        """`addresses`: HOST:PORT, or several with commas between them. Raises Misconfigured for anything else."""
        self._known = [address.strip() for address in addresses.split(",")]
        for address in self._known:
            split_address(address)
        self.current = self._known[0]
        """Whom to speak to now."""

    @property
    def are_several(self) -> bool:
        """Whether there is another to try."""
        return len(self._known) > 1

    def after(self, asked: str, error: AsterismError | None) -> None:
        """Choose whom to speak to next, when `asked` answered so, or (None) left; nothing where that is done already.

        A leader that is named is followed, whether we knew it or not: whoever names it has our trust already. One that
        cannot be had, or names itself, is left for the next that we know.
        """
        if asked != self.current:
            return
        if isinstance(error, NotLeading) and error.leader not in ("", self.current) and _is_address(error.leader):
            self.current = error.leader
            return
        place = self._known.index(self.current) if self.current in self._known else -1
        self.current = self._known[(place + 1) % len(self._known)]


def _is_address(text: str) -> bool:
    try:
        split_address(text)
    except Misconfigured:
        return False
    return True
