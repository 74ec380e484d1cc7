"""Pages of one file: a stranger's text stays text, and the policy allows the page's own style and script and no other."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from pathlib import Path

import pytest
from jinja2 import UndefinedError

from tagger.reports import page


@pytest.fixture
def template(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Write a template beside the base of all pages, with a style and a script of its own; returns what renders it."""

    def write(main: str, style: str = "p { color: red }", script: str = "let x = 1 < 2;"):
        for file in page.TEMPLATES.glob("base.*"):
            (tmp_path / file.name).write_text(file.read_text())
        body = '{% extends "base.html" %}{% block title %}t{% endblock %}{% block main %}' + main + "{% endblock %}"
        (tmp_path / "own.html").write_text(body)
        (tmp_path / "own.css").write_text(style)
        (tmp_path / "own.js").write_text(script)
        monkeypatch.setattr(page, "TEMPLATES", tmp_path)
        page._environment.cache_clear()
        return lambda **values: page.render("own.html", **values)

    yield write
    page._environment.cache_clear()


def test_style_and_script_are_allowed_by_the_hash_of_what_stands_there(template):
    html = template("x")()
    [policy] = re.findall(r'Content-Security-Policy" content="([^"]*)"', html)
    for tag, directive in (("style", "style-src"), ("script", "script-src")):
        [content] = re.findall(rf"<{tag}>(.*?)</{tag}>", html, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{directive} &#39;sha256-{digest}&#39;" in policy
    assert policy.startswith("default-src &#39;none&#39;; img-src data:; ")
    assert "let x = 1 < 2;" in html
    assert "p { color: red }" in html


def test_a_strangers_text_is_escaped_isolated_and_cut(template):
    html = template("[{{ value|text }}][{{ value }}]")(value='<b a="1">\x1b[31m\u202e')
    assert "[<bdi>&lt;b a=&#34;1&#34;&gt;\\x1b[31m\\u202e</bdi>][&lt;b a=" in html
    html = template("{{ value|text }}")(value="x" * 100)
    assert f'<bdi title="{"x" * 100}">{"x" * 59}…</bdi>' in html


def test_a_value_that_is_not_given_is_an_error(template):
    with pytest.raises(UndefinedError):
        template("{{ missing }}")()


def test_data_cannot_end_its_block():
    value = {"label": "</script><!--<script>&\u2028", "n": [1, None]}
    block = str(page.data_block("data", value))
    [content] = re.findall(r'^<script type="application/json" id="data">(.*)</script>$', block)
    assert not set("<>&\u2028") & set(content)
    assert json.loads(content) == value
