"""The page in a browser: hostile names stay text, nothing runs, nothing is loaded, all fits."""

from __future__ import annotations

import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from html.parser import HTMLParser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from tests.report.data import chart, summary

from fairtrain.report import RunSummary, render_report

BROWSER = shutil.which("chromium")

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(BROWSER is None, reason="chromium is not installed"),
]


class Site:
    """Pages of a test at a local address, and the paths that were asked for."""

    def __init__(self, folder: Path) -> None:
        self.pages: dict[str, str] = {}
        self.hits: list[str] = []
        self.folder = folder
        site = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                site.hits.append(self.path)
                page = site.pages.get(self.path)
                self.send_response(404 if page is None else 200)
                self.send_header("Content-Type", "text/html; charset=utf-8")
                self.end_headers()
                self.wfile.write((page or "").encode())

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.server.server_port
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def browse(self, path: str, *flags: str) -> str:
        """What the browser made of a page; every name leads to this site."""
        assert BROWSER is not None
        found = subprocess.run(
            [
                BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run",
                "--disable-dev-shm-usage", "--disable-background-networking",
                f"--user-data-dir={self.folder / 'profile'}",
                f"--host-resolver-rules=MAP * 127.0.0.1:{self.port}",
                *(flags or ("--dump-dom",)),
                f"http://127.0.0.1:{self.port}{path}",
            ],
            capture_output=True, check=True, timeout=120,
        )  # fmt: skip
        return found.stdout.decode("utf-8", errors="replace")


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    found = Site(tmp_path)
    yield found
    found.server.shutdown()
    found.server.server_close()


class Dom(HTMLParser):
    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.text = self.title = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        assert not [name for name, _ in attrs if name.startswith("on")]

    def handle_data(self, data: str) -> None:
        self.text += data
        if self.tags and self.tags[-1] == "title":
            self.title += data


def hostile(port: int) -> list[str]:
    address = f"http://127.0.0.1:{port}/leak"
    return [
        f"<script>document.title='ran';fetch('{address}?script')</script>",
        f'"><img src={address}?img onerror="document.title=\'ran\'">',
        f"</style><style>@import url({address}?css);body{{display:none}}</style>",
        "'><svg onload=\"document.title='ran'\"><image href='http://evil.example/leak?svg'>",
        f"<iframe src={address}?frame></iframe><link rel=prefetch href={address}?link>",
        "{{7*7}}{% raw %}",
        "\u202egnp.exe\u0000\u0007\u2066",
    ]


@pytest.mark.parametrize("word", [0, 2])
def test_hostile_names_are_text_and_load_nothing(site: Site, word: int) -> None:
    names = hostile(site.port)
    sizes = (300, 200, *[60] * (len(names) - 2))
    site.pages["/"] = render_report(summary(names, sizes, word=names[word], n_models=3))
    dom = Dom(site.browse("/"))
    for name in names:
        shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in name)
        assert shown[:45] in dom.text
    assert not {"script", "img", "iframe", "link", "image"} & set(dom.tags)
    assert dom.tags.count("style") == 1
    assert dom.title.startswith("Title ")
    assert "{{7*7}}{% raw %}" in dom.text
    assert not [path for path in site.hits if "leak" in path]


def test_the_policy_stops_what_escaping_would_miss(site: Site) -> None:
    attack = (
        "<script>document.title='ran'</script><img src=/leak?img onerror=\"document.title='ran'\">"
        "<style>h1{background:url(/leak?css)}</style><link rel=stylesheet href=/leak?link>"
        "<iframe src=/leak?frame></iframe>"
    )
    page = render_report(summary()).replace("</h1>", f"</h1>{attack}")
    site.pages["/"] = page
    assert "<title>ran" not in site.browse("/")
    assert not [path for path in site.hits if "leak" in path]
    # Without the policy all of it happens: the test can see what it looks for.
    site.pages["/open"] = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page)
    assert "<title>ran" in site.browse("/open")
    assert len([path for path in site.hits if "leak" in path]) >= 3


def wide() -> RunSummary:
    """Eight models, a name of 10,000 characters and many groups."""
    names = ("x" * 10_000, "y" * 60, "a/b/c d")
    charts = tuple(chart("z" * 300 + str(i), "p" * 200) for i in range(4))
    return summary(names, (400, 300, 45), n_models=8, several=2, word="w" * 200, frontiers=charts)


@pytest.mark.parametrize("width", [390, 1280])
def test_page_is_no_wider_than_the_window(site: Site, width: int) -> None:
    site.pages["/page"] = render_report(wide())
    site.pages["/"] = (
        f"<body><iframe src=/page width={width} height=800 style='border:0'></iframe><p></p>"
        "<script>onload = () => { const d = document.querySelector('iframe').contentDocument;"
        "document.querySelector('p').textContent = 'wide ' + d.documentElement.scrollWidth"
        " + ' styled ' + getComputedStyle(d.body).maxWidth; }</script>"
    )
    found = re.search(r"wide (\d+) styled (\w+)", site.browse("/"))
    assert found is not None
    assert int(found[1]) <= width
    assert found[2] == "1024px"  # the style sheet has the hash that the policy names


def test_long_names_are_cut_and_say_so(site: Site) -> None:
    site.pages["/"] = render_report(wide())
    assert "x" * 200 not in site.pages["/"]
    assert "(10,000 characters)" in Dom(site.browse("/")).text


def test_page_prints_and_can_be_pictured(site: Site) -> None:
    site.pages["/"] = render_report(summary(n_models=3))
    pdf, png = site.folder / "page.pdf", site.folder / "page.png"
    site.browse("/", f"--print-to-pdf={pdf}", "--no-pdf-header-footer")
    site.browse("/", f"--screenshot={png}", "--window-size=1280,3000")
    assert pdf.read_bytes().startswith(b"%PDF")
    assert png.read_bytes().startswith(b"\x89PNG")
