"""The site: its pages, their links and pictures, and the names that the API pages describe.

FASTRNN_SITE is the folder of a site that was built; without it the tests build one, which takes
some minutes.
"""

import html
import os
import pathlib
import posixpath
import re
import subprocess
import sys
from functools import cache
from html.parser import HTMLParser
from urllib.parse import unquote, urldefrag, urlsplit

import pytest

pytest.importorskip("sphinx")
pytest.importorskip("myst_nb")
from sphinx.util.inventory import InventoryFile

import fastrnn

pytestmark = [pytest.mark.slow, pytest.mark.any_isa, pytest.mark.no_kernels]

ROOT = pathlib.Path(__file__).parents[2]
DOCS = ROOT / "docs"
# Of the modules that fastrnn imports on first use, bench and demos are commands, and the functions
# of io are names of fastrnn.
MODULES = ["fastrnn", *sorted({*fastrnn._LAZY} - {"bench", "demos", "io"})]

# Pages whose ```python blocks other tests run, because they need other systems.
RUN_ELSEWHERE = {"c.md", "jax.md", "keras.md", "onnx.md", "programs.md", "torch.md"}
RUN_ELSEWHERE |= {"how-to/several-machines.md", "how-to/several-processes.md"}
NOT_LOADED = ("canonical", "index", "search", "next", "prev")  # links that a browser only offers


@pytest.fixture(scope="session")
def site(tmp_path_factory):
    """The folder of the built site."""
    if "FASTRNN_SITE" in os.environ:
        return pathlib.Path(os.environ["FASTRNN_SITE"]).resolve()
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-n", DOCS, folder]
    subprocess.run(command, check=True)
    return folder


class Page(HTMLParser):
    """What a page loads and links to.

    Attributes
    ----------
    ids : set of str
    links : list of str, of <a>
    loaded : list of str, of what a browser fetches at once
    without_text : list of str, the pictures without alternative text
    """

    def __init__(self, text):
        super().__init__()
        self.ids, self.links, self.loaded, self.without_text = set(), [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        if "id" in found:
            self.ids.add(found["id"])
        if tag == "a" and found.get("href"):
            self.links.append(found["href"])
        if tag == "link" and found.get("rel") not in NOT_LOADED:
            self.loaded.append(found["href"])
        if found.get("src"):
            self.loaded.append(found["src"])
        if tag == "img" and not found.get("alt"):
            self.without_text.append(found.get("src"))


@cache
def page(path):
    return Page(path.read_text(encoding="utf-8"))


def pages(site):
    found = sorted(path for path in site.rglob("*.html") if "_static" not in path.parts)
    assert len(found) > 50
    return found


def test_links_within_the_site_lead_somewhere(site):
    broken = []
    for path in pages(site):
        for link in page(path).links:
            target, fragment = urldefrag(link)
            if urlsplit(target).scheme:
                continue
            other = (path.parent / unquote(target)).resolve() if target else path
            if not other.exists():
                broken.append(f"{path.relative_to(site)}: {link}: no such file")
            elif fragment and other.suffix == ".html" and unquote(fragment) not in page(other).ids:
                broken.append(f"{path.relative_to(site)}: {link}: no such place")
    assert not broken, "\n".join(broken)


def test_nothing_is_loaded_from_another_site(site):
    loaded = {link for path in pages(site) for link in page(path).loaded if urlsplit(link).netloc}
    sheets = [sheet.read_text(encoding="utf-8") for sheet in site.rglob("*.css")]
    loaded |= {
        url for text in sheets for url in re.findall(r"url\(['\"]?((?:https?:)?//[^)]*)", text)
    }
    assert not loaded


def test_no_page_has_a_sidebar_without_links(site):
    """`ALONE` in docs/conf.py names the pages that have no sidebar."""
    empty = '<div class="bd-toc-item navbar-nav"></div>'
    assert not [p.name for p in pages(site) if empty in p.read_text(encoding="utf-8")]


def test_every_picture_has_a_text_in_its_place(site):
    assert not [(p.name, image) for p in pages(site) for image in page(p).without_text]


def test_every_page_is_reached_from_the_first(site):
    known = {path.relative_to(site).as_posix() for path in pages(site)}
    reached, waiting = set(), ["index.html"]
    while waiting:
        name = waiting.pop()
        for link in page(site / name).links:
            target = posixpath.normpath(posixpath.join(posixpath.dirname(name), urldefrag(link)[0]))
            if target in known and target not in reached:
                reached.add(target)
                waiting.append(target)
    assert known - reached <= {"index.html", "genindex.html", "py-modindex.html", "search.html"}


def public_names():
    for name in MODULES:
        module = fastrnn if name == "fastrnn" else getattr(fastrnn, name)
        listed = getattr(module, "__all__", None)
        listed = listed or [n for n in vars(module) if n[0] != "_"]
        prefix = "fastrnn" if name == "fastrnn" else f"fastrnn.{name}"
        yield from (f"{prefix}.{n}" for n in listed if callable(getattr(module, n)))


def test_every_public_name_has_a_place_in_the_api(site):
    with (site / "objects.inv").open("rb") as file:
        inventory = InventoryFile.load(file, "", os.path.join)
    described = {name for kind in inventory if kind[:3] == "py:" for name in inventory[kind]}
    assert not set(public_names()) - described


def test_every_python_block_is_run():
    """By the build of the site ({code-cell}), or by the tests of the page."""
    plain = {
        path.relative_to(DOCS).as_posix()
        for path in DOCS.rglob("*.md")
        if re.search(r"^```(python|py|pycon)", path.read_text(encoding="utf-8"), re.M)
    }
    assert plain <= RUN_ELSEWHERE


def test_the_commands_are_those_of_the_readme(site):
    """The page of the first steps includes the README's text."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    commands = re.findall(r"^    (pip install.*)$", readme, re.M)
    start = html.unescape(re.sub(r"<[^>]*>", "", (site / "start.html").read_text(encoding="utf-8")))
    assert len(commands) >= 2 and not [command for command in commands[:2] if command not in start]
