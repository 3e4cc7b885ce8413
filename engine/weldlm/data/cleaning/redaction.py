"""What names a person or opens a door gives way to a placeholder.

Patterns see the form of a text, not its meaning: they miss what is spelled in words, and take some
numbers that only look like it.
"""

import ipaddress
import re
from collections.abc import Callable
from typing import Final

__all__ = ["REDACTIONS", "redact_emails", "redact_ips", "redact_keys", "redact_phones"]

# every repetition is bounded, and none can be cut in two ways: time is linear in the text
_EMAIL: Final = re.compile(
    r"(?<![\w.+-])[\w+-]{1,64}(?:\.[\w+-]{1,64}){0,8}@(?:[A-Za-z0-9-]{1,63}\.){1,8}[A-Za-z]{2,24}\b"
)
_PHONE: Final = re.compile(
    r"(?<![\w.+-])(?:"
    r"\+\d{1,15}(?:[ ./-]?\(\d{1,5}\)\d{0,12})?(?:[ ./-]\d{1,12}){0,6}"  # +49 (0)30 1234567
    r"|\(\d{3}\) ?\d{3}[ .-]\d{4}"  # (555) 123-4567
    r"|\d{3}-\d{3}-\d{4}"
    r"|\d{3}\.\d{3}\.\d{4}"
    r")(?![\w-])"
)
_IP: Final = re.compile(
    r"(?<![\w.:])(?:"
    r"\d{1,3}(?:\.\d{1,3}){3}(?!\.?\d)"
    r"|[23][0-9A-Fa-f]{3}(?::[0-9A-Fa-f]{0,4}){2,7}"  # global unicast is 2000::/3
    r")(?![\w:])"
)
_KEY: Final = re.compile(
    r"-----BEGIN (?:[A-Z]{1,16} ){0,3}PRIVATE KEY-----[A-Za-z0-9+/=\s:,-]{0,8192}?"
    r"-----END (?:[A-Z]{1,16} ){0,3}PRIVATE KEY-----"
    r"|\b(?:AKIA|ASIA)[0-9A-Z]{16}\b"  # Amazon
    r"|\bgh[pousr]_[A-Za-z0-9]{36,255}\b"  # GitHub
    r"|\bgithub_pat_[A-Za-z0-9_]{22,255}\b"
    r"|\bglpat-[A-Za-z0-9_-]{20,64}\b"  # GitLab
    r"|\bsk-(?:[a-z]{2,8}-){0,2}[A-Za-z0-9_-]{20,200}\b"  # model services
    r"|\bhf_[A-Za-z0-9]{30,64}\b"
    r"|\bxox[abeoprs]-[A-Za-z0-9-]{10,250}\b"  # Slack
    r"|\bAIza[A-Za-z0-9_-]{35}(?![\w-])"  # Google
    r"|\b[rs]k_live_[A-Za-z0-9]{20,250}\b"  # Stripe
    # a JSON Web Token
    r"|\beyJ[A-Za-z0-9_-]{8,2048}\.eyJ[A-Za-z0-9_-]{8,4096}\.[A-Za-z0-9_-]{8,1024}"
)


def redact_emails(text: str) -> str:
    """Replaces addresses by <EMAIL>."""
    return _EMAIL.sub("<EMAIL>", text) if "@" in text else text


def redact_phones(text: str) -> str:
    """Replaces numbers with a country code, and those in the form of North America, by <PHONE>."""
    return _PHONE.sub(_phone, text)


def redact_ips(text: str) -> str:
    """Replaces public addresses by <IP>; those of a machine itself or a local net stay."""
    return _IP.sub(_ip, text)


def redact_keys(text: str) -> str:
    """Replaces keys of known services, tokens and private keys by <KEY>."""
    return _KEY.sub("<KEY>", text)


REDACTIONS: dict[str, Callable[[str], str]] = {
    "key": redact_keys,  # first: a key may hold what looks like a number
    "email": redact_emails,
    "ip": redact_ips,
    "phone": redact_phones,
}


def _phone(found: re.Match[str]) -> str:
    num_digits = sum(map(str.isdigit, found[0]))
    return "<PHONE>" if 8 <= num_digits <= 15 else found[0]  # E.164: at most 15


def _ip(found: re.Match[str]) -> str:
    try:
        return "<IP>" if ipaddress.ip_address(found[0]).is_global else found[0]
    except ValueError:
        return found[0]
