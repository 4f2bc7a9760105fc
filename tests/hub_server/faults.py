"""What can go wrong on the way to a Hub, made to happen on purpose."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass
class Fault:
    """Something that goes wrong with requests.

    Attributes:
        pattern: Searched in `METHOD /path`; which requests it hits.
        times: How many of them; None for all.
        status: Answer with this status instead, and do nothing.
        headers: Of that answer.
        cut_to: Answer with so many bytes of the body, as if they were all.
        close_after: Close the connection after so many bytes of the answer's body.
        reset: Reset it then instead, as a crashed machine does.
        lose_answer: Do what is asked, and close the connection without an answer.
        flip_byte: Change the byte at this index of the answer's body.
        delay_s: Wait so long first, seconds.
        call: Called before the request is answered.
    """

    pattern: str
    times: int | None = None
    status: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    cut_to: int | None = None
    close_after: int | None = None
    reset: bool = False
    lose_answer: bool = False
    flip_byte: int | None = None
    delay_s: float = 0.0
    call: Callable[[], object] | None = None

    def hits(self, request: str) -> bool:
        """Tell whether it hits a request, `METHOD /path`, and count that."""
        if self.times == 0 or not re.search(self.pattern, request):
            return False
        if self.times is not None:
            self.times -= 1
        return True

    def damage(self, body: bytes) -> bytes:
        """Return a body with a byte flipped, if this fault flips one."""
        if self.flip_byte is None or not body:
            return body
        damaged = bytearray(body)
        damaged[self.flip_byte] ^= 0xFF
        return bytes(damaged)
