"""Licences: from what a source writes to an SPDX identifier, and what may be taken.

Only a text that is understood as a whole gives an identifier. Whatever has one unknown word in it
("Creative Commons, but ask me first") is no licence that a program should accept.
"""

import re

YOUTUBE_CC = "Creative Commons Attribution license (reuse allowed)"
"""YouTube's only Creative Commons choice. Its explanation links to CC BY 3.0."""

_OPEN = re.compile(r"CC0-1\.0|CC-PDM-1\.0|CC-BY(-SA)?(-\d\.\d(-[A-Z]+)?)?")

_IDENTIFIER = re.compile(r"CC0-1\.0|CC-PDM-1\.0|CC-BY(-NC)?(-SA|-ND)?(-\d\.\d(-[A-Z]{2,3})?)?")

_ADDRESS = re.compile(
    r"https?://(?:www\.)?creativecommons\.org/(?:licenses|publicdomain)/"
    r"(?P<code>[a-z-]+)/(?P<version>\d\.\d)(?:/(?P<port>[a-z]{2,3}))?(?:/(?:deed|legalcode)[\w.-]*)?/?",
    re.IGNORECASE,
)

_ELEMENTS = {
    "by": "BY",
    "attribution": "BY",
    "nc": "NC",
    "noncommercial": "NC",
    "nd": "ND",
    "noderivatives": "ND",
    "noderivs": "ND",
    "sa": "SA",
    "sharealike": "SA",
}
_FILLERS = {
    "cc",
    "creative",
    "commons",
    "licence",
    "license",
    "international",
    "unported",
    "generic",
}


def spdx(raw: str | None) -> str | None:
    """The SPDX identifier of a licence as written, or None where it is not a known open form.

    Understood are addresses at creativecommons.org, names ("Creative Commons Attribution-ShareAlike
    4.0 International"), codes ("cc-by-4.0", "CC0"), identifiers themselves and YouTube's own
    wording. A name without version gives an identifier without one, such as ``CC-BY``.
    """
    text = (raw or "").strip()
    if _IDENTIFIER.fullmatch(text.upper()):
        return text.upper()
    if text.replace("licence", "license") == YOUTUBE_CC:  # where the interface is British
        return "CC-BY-3.0"
    if address := _ADDRESS.fullmatch(text):
        return _from_address(address["code"].lower(), address["version"], address["port"])
    joined = re.sub(
        r"(?i)\b(non|no|share)[\s-]+(commercial|derivatives|derivs|alike)\b", r"\1\2", text
    )
    words = re.findall(r"\d\.\d|[^\W_]+", joined.casefold())
    match " ".join(word for word in words if word not in _FILLERS - {"cc"}):
        case "cc0" | "cc0 1.0" | "cc 0" | "cc0 1.0 universal" | "public domain dedication":
            return "CC0-1.0"
        case "public domain" | "public domain mark" | "public domain mark 1.0" | "pdm":
            return "CC-PDM-1.0"
    versions = [word for word in words if re.fullmatch(r"\d\.\d", word)]
    elements = [_ELEMENTS[word] for word in words if word in _ELEMENTS]
    known = all(word in _ELEMENTS or word in _FILLERS or word in versions for word in words)
    if not known or len(versions) > 1 or elements[:1] != ["BY"]:
        return None
    return "-".join(["CC", *elements, *versions])


def _from_address(code: str, version: str, port: str | None) -> str | None:
    if code == "zero":
        return "CC0-1.0"
    if code == "mark":
        return "CC-PDM-1.0"
    if not set(code.split("-")) <= {"by", "nc", "nd", "sa"}:
        return None
    return "-".join(["CC", code.upper(), version, *([port.upper()] if port else [])])


def is_open(identifier: str | None) -> bool:
    """Whether clips under this licence may be cut, changed, trained on and passed on.

    True for CC0, the public domain mark, CC BY and CC BY-SA. Not for ND, which forbids clips, nor
    for NC, which would bind everything that is built with them.
    """
    return identifier is not None and _OPEN.fullmatch(identifier) is not None


def is_non_commercial(identifier: str) -> bool:
    """Whether only NC keeps a licence from being open: CC BY-NC and CC BY-NC-SA, without ND."""
    return re.fullmatch(r"CC-BY-NC(-SA)?(-\d\.\d(-[A-Z]+)?)?", identifier) is not None


def licence_url(identifier: str) -> str | None:
    """The address of a Creative Commons licence's text; None where it has no version."""
    if identifier == "CC0-1.0":
        return "https://creativecommons.org/publicdomain/zero/1.0/"
    if identifier == "CC-PDM-1.0":
        return "https://creativecommons.org/publicdomain/mark/1.0/"
    match = re.fullmatch(r"CC-([A-Z-]+)-(\d\.\d)(?:-([A-Z]+))?", identifier)
    if match is None:
        return None
    code, version, port = match.groups()
    tail = f"{version}/{port}/" if port else f"{version}/"
    return f"https://creativecommons.org/licenses/{code}/{tail}".lower()


def attribution(*, title: str, creator: str, url: str, licence: str) -> str:
    """One line that credits a recording: title, creator, source, licence and what was changed.

    These are the parts that section 3(a) of CC BY 4.0 (4(b) of 3.0) asks for.
    """
    text = licence_url(licence)
    terms = f"{licence} ({text})" if text else licence
    return (
        f'"{" ".join(title.split())}" by {" ".join(creator.split())}, {url}, licensed under '
        f"{terms}. Changes: the audio was cut into segments, mixed down and resampled to 16 kHz."
    )
