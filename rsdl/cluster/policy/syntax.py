"""Syntax of names and labels, as the API server checks it."""

import difflib
import re
from collections.abc import Iterable

LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
LABEL_1035 = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
QUALIFIED = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?")

MAX_LABEL = 63
MAX_SUBDOMAIN = 253


def label_fault(name: str) -> str | None:
    """Return why a name is not a DNS label (RFC 1123), or ``None``."""
    allowed = 'a-z, 0-9 and "-" with a letter or digit at both ends'
    return _find_fault(name, LABEL, MAX_LABEL, allowed)


def service_fault(name: str) -> str | None:
    """Return why a name is not valid for a Service (RFC 1035), or ``None``."""
    return _find_fault(name, LABEL_1035, MAX_LABEL, 'a-z, 0-9 and "-", beginning with a letter')


def subdomain_fault(name: str) -> str | None:
    """Return why a name is not a DNS subdomain (RFC 1123), or ``None``."""
    allowed = 'a-z, 0-9, "-" and "." with a letter or digit at both ends'
    return _find_fault(name, SUBDOMAIN, MAX_SUBDOMAIN, allowed)


def key_fault(key: str) -> str | None:
    """Return why a text is not a valid label key, or ``None``."""
    prefix, slash, name = key.rpartition("/")
    if slash and (fault := subdomain_fault(prefix)):
        return f'has a prefix before "/" that {fault}'
    if not name:
        return 'has no name behind "/"' if slash else "is empty"
    allowed = 'letters, digits, "-", "_", "." with a letter or digit at both ends'
    return _find_fault(name, QUALIFIED, MAX_LABEL, allowed)


def _find_fault(name: str, pattern: re.Pattern[str], most: int, allowed: str) -> str | None:
    if len(name) > most:
        return f"has {len(name)} characters, {most} are allowed"
    return None if pattern.fullmatch(name) else f'"{name}" is not of {allowed}'


def nearest(word: str, known: Iterable[str], cutoff: float = 0.5) -> str | None:
    """Return the known word closest to a possibly misspelled one."""
    by_case = {name.lower(): name for name in known}
    near = difflib.get_close_matches(word.lower(), by_case, n=1, cutoff=cutoff)
    return by_case[near[0]] if near else None
