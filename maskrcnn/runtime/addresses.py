"""Addresses of downloads, which come from users and, in redirects, from servers."""

import os
import urllib.parse

from maskrcnn.errors import UserError

HUB = "https://huggingface.co"


def resolve_url(text: str) -> str | None:
    """The address that ``text`` stands for: an http(s) URL, or ``hf://OWNER/REPOSITORY[@REVISION]/FILE``; else None.

    Raises:
        UserError: an ``hf://`` address without owner, repository and file.
    """
    if text.startswith(("http://", "https://")):
        return text
    if not text.startswith("hf://"):
        return None
    parts = text.removeprefix("hf://").split("/", 2)
    if len(parts) < 3 or not all(parts):
        raise UserError(f"{text}: expected hf://OWNER/REPOSITORY/FILE")
    owner, repository, file = parts
    repository, _, revision = repository.partition("@")
    return f"{HUB}/{owner}/{repository}/resolve/{revision or 'main'}/{urllib.parse.quote(file)}"


def check_url(url: str) -> str:
    """Returns an address that can be asked for.

    Raises:
        UserError: not an http or https URL.
    """
    try:
        parts = urllib.parse.urlsplit(url)
        is_valid = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        (parts.hostname or "").encode("idna")
        url.encode("ascii")
    except ValueError:
        is_valid = False
    if not is_valid or not url.isprintable() or " " in url or len(url) > 4096:
        raise UserError(f"{ascii(url[:200])[1:-1]}: not an http or https address; check and quote it")
    return url


def file_name(url: str) -> str:
    """The name of the file at a URL, without the query.

    Raises:
        UserError: it has none that a file can have.
    """
    name = urllib.parse.unquote(urllib.parse.urlsplit(check_url(url)).path).rpartition("/")[2]
    if not name.isprintable() or name in ("", ".", "..") or len(os.fsencode(name)) > 200:
        raise UserError(f"{url}: expected the address of a file")
    return name


def redirected(url: str, location: str) -> str:
    """The address to which a server redirects.

    Raises:
        UserError: it is not http or https, or loses the encryption.
    """
    try:
        target = urllib.parse.urljoin(url, location)
    except ValueError:
        target = location
    if url.startswith("https:") and not target.startswith("https:"):
        raise UserError(f"{url}: redirects to an address without encryption; check the address")
    return check_url(target)
