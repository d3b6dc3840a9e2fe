"""What keeps requests from being answered: the service, the way to it, or this machine."""

from __future__ import annotations

import errno
import re
import socket
import ssl

from bench.load import DEAD_AFTER, Run

REFUSED = (429, 503)  # a service that is asked for too much may say so; it has not failed
_FAULTS = {
    errno.ECONNREFUSED: "refused",
    errno.EHOSTUNREACH: "no route",
    errno.ENETUNREACH: "no route",
    errno.EMFILE: "too many open files",
    errno.ENFILE: "too many open files",
    errno.EADDRNOTAVAIL: "no free port",
}
_OURS = {
    "too many open files": "raise this machine's limit (ulimit -Hn), or ask at a lower --rate",
    "no free port": "ask at a lower --rate, or let the service keep its connections open",
}
_MENDS = {
    "refused": "start the service, or mend the URL's port",
    "no route": "mend the URL's host, or this machine's network",
    "unknown host": "mend the URL's host",
    "TLS failed": "trust its certificate (SSL_CERT_FILE), or give http:// where it speaks no TLS",
    "not HTTP": "mend the URL's port",
    **_OURS,
}


def fault_of(error: Exception) -> str:
    """Name in a word or two what became of a request that got no answer."""
    if isinstance(error, socket.gaierror | UnicodeError):
        return "unknown host"
    if isinstance(error, ssl.SSLError):
        return f"TLS failed: {(error.reason or 'handshake').lower().replace('_', ' ')}"
    if not isinstance(error, OSError):
        return "broken"
    # Of a host with several addresses asyncio tells the numbers in the text alone.
    numbers = [error.errno or 0, *map(int, re.findall(r"\[Errno (\d+)\]", str(error)))]
    return _FAULTS.get(numbers[-1], "broken")


def failure(run: Run, where: str, *, answered: bool) -> str | None:
    """Tell what ended or spoiled a loop, with the mend if one is known; refusals are no failure.

    answered: whether the service at `where` gave any answer before
    """
    last = set(Run(run.outcomes[-DEAD_AFTER:]).codes)
    wrong = {code: count for code, count in run.codes.items() if not _is_usual(code)}
    if not answered and not any(outcome.answer.status for outcome in run.outcomes):
        told, mended = f"{where} cannot be reached: {', '.join(last)}", last
    elif run.died and last <= set(_OURS):
        told, mended = f"{where} could not be asked any more: {', '.join(last)}", last
    elif run.died:
        well = f"{len(run.good)} of {len(run.outcomes)} requests were answered well"
        told, mended = f"{where} died: {', '.join(last)}; {well}", set()
    elif wrong:
        counts = ", ".join(f"{count} times {code}" for code, count in wrong.items())
        told = f"of {len(run.outcomes)} requests some were answered wrongly: {counts}"
        mended = set(wrong)
    else:
        return None
    mends = [mend for fault, mend in _MENDS.items() if any(c.startswith(fault) for c in mended)]
    return "; ".join([told, *mends])


def _is_usual(code: str) -> bool:
    return code.startswith("2") or code in map(str, REFUSED)
