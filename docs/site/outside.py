"""A hook of mkdocs: pages that lie elsewhere in the repository, links there, and patterns in the navigation.

The site has the project's README, the client's and the examples' as pages of its own. Other links to files of the
repository become their paths, as text: a site knows no address for them.

Source: https://www.mkdocs.org/user-guide/configuration/#hooks
"""

from __future__ import annotations

import glob
import os
import posixpath
import re
from typing import Any

from mkdocs.structure.files import File, Files  # type: ignore[import-not-found,unused-ignore]

PAGES = {"README.md": "project.md", "clients/python/README.md": "client.md", "examples/README.md": "examples.md"}
"""Pages of the repository, and what they are on the site."""
LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s#]+)(#[^)]*)?\)")
FENCE = re.compile(r"^(```|~~~).*?^\1", re.DOTALL | re.MULTILINE)


def on_config(config: Any) -> Any:
    """Have a pattern in the navigation stand for the pages that it fits, in order."""
    config.nav = _listed(config.nav, config.docs_dir)
    return config


def _listed(nav: Any, folder: str) -> Any:
    if isinstance(nav, list):
        return [_listed(each, folder) for each in nav]
    if isinstance(nav, dict):
        return {name: _listed(each, folder) for name, each in nav.items()}
    if "*" not in nav:
        return nav
    found = sorted(glob.glob(nav, root_dir=folder))
    return sorted(found, key=lambda path: not path.endswith("README.md"))


def on_files(files: Files, config: Any) -> Files:
    """Add the pages that lie elsewhere, and the pictures that they show."""
    root = os.path.dirname(config.config_file_path)
    for source, page in PAGES.items():
        path = os.path.join(root, source)
        files.append(File.generated(config, page, abs_src_path=path))
        with open(path, encoding="utf-8") as file:
            shown = [found[3] for found in LINK.finditer(file.read()) if found[1]]
        for picture in shown:
            there = posixpath.normpath(posixpath.join(posixpath.dirname(source), picture))
            if not there.startswith("docs/") and os.path.isfile(os.path.join(root, there)):
                files.append(File.generated(config, there, abs_src_path=os.path.join(root, there)))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Have links lead to where their targets are on the site."""
    root = os.path.dirname(config.config_file_path)
    source = os.path.relpath(page.file.abs_src_path, root)

    def relinked(found: re.Match[str]) -> str:
        mark, text, target, anchor = found[1], found[2], found[3], found[4] or ""
        if "://" in target or target.startswith("mailto:"):
            return found[0]
        there = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
        if there in PAGES:
            place = PAGES[there]
        elif there.startswith("docs/"):
            place = there.removeprefix("docs/")
        elif mark:
            place = there
        elif os.path.exists(os.path.join(root, there)):
            return f"{text} (`{there}`)" if there not in text else text
        else:
            return found[0]  # mkdocs says that it leads nowhere
        return f"{mark}[{text}]({posixpath.relpath(place, posixpath.dirname(page.file.src_uri))}{anchor})"

    parts, at = [], 0
    for fence in FENCE.finditer(markdown):
        parts += [LINK.sub(relinked, markdown[at : fence.start()]), fence[0]]
        at = fence.end()
    return "".join([*parts, LINK.sub(relinked, markdown[at:])])
