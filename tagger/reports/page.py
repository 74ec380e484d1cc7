"""Make a page that is one file: its style and script inline and allowed by their hashes, all else as text.

Everything that a page shows is a stranger's text. Templates escape it; the filter `text` also isolates its direction, writes
control characters as escapes and cuts what is long. Data for scripts goes through `data_block`, and scripts write it with
textContent. Templates have no style attributes and no event handlers: the page's Content-Security-Policy forbids them.
"""

from __future__ import annotations

import base64
import hashlib
import json
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, pass_context
from jinja2.runtime import Context
from markupsafe import Markup, escape

from tagger.core.text import one_line

TEMPLATES = Path(__file__).with_name("templates")
SHOWN = 60  # characters of a text that are shown; the rest is in its title


def render(template: str, **values: Any) -> str:
    """Return the page of a template such as "report.html", which extends base.html.

    Its style is base.css and the file of the same name with .css, its script likewise; both are optional. A value that the
    template names and that is not given is an error.
    """
    style, script = _joined(template, ".css"), _joined(template, ".js")
    policy = (
        f"default-src 'none'; img-src data:; style-src {_hash(style)}; script-src {_hash(script)}; "
        "base-uri 'none'; form-action 'none'"
    )
    return _environment().get_template(template).render(style=Markup(style), script=Markup(script), policy=policy, **values)


def percent(share: float | None, digits: int = 1) -> str:
    """Return a share as a percentage, a dash for none."""
    return "—" if share is None else f"{100 * share:.{digits}f} %"


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"text": text, "line": line, "percent": percent, "count": "{:,}".format}
    environment.globals["data_block"] = data_block
    return environment


@pass_context
def text(context: Context, value: object, shown: int = SHOWN) -> Markup:
    """Return a stranger's text as one isolated line, cut after `shown` characters, then with the whole as its title.

    Where the template's value `longest_title` is a number, a title is cut after that many, too.
    """
    whole = _whole(value)
    if len(whole) <= shown:
        return Markup("<bdi>{}</bdi>").format(whole)
    longest = context.get("longest_title") or len(whole)
    return Markup('<bdi title="{}">{}…</bdi>').format(whole[:longest], whole[: shown - 1].rstrip())


def line(value: object, shown: int = SHOWN) -> str:
    """Return a stranger's text as one line, cut after `shown` characters: for attributes, which can isolate nothing."""
    whole = _whole(value)
    return whole if len(whole) <= shown else f"{whole[: shown - 1].rstrip()}…"


def _whole(value: object) -> str:
    """Return the text as one line; in quotes where there is nothing to see."""
    whole = one_line(str(value))
    return whole if whole.strip() else f'"{whole}"'


def data_block(name: str, value: Any) -> Markup:
    """Return a script element that holds JSON for document.getElementById(name).textContent; nothing in it can end it."""
    encoded = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        encoded = encoded.replace(character, f"\\u{ord(character):04x}")
    return Markup('<script type="application/json" id="{}">{}</script>').format(escape(name), Markup(encoded))


def _joined(template: str, suffix: str) -> str:
    names = ("base", Path(template).stem)
    files = [TEMPLATES / f"{name}{suffix}" for name in names]
    return "\n" + "\n".join(file.read_text(encoding="utf-8") for file in files if file.exists())


def _hash(content: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}'"
