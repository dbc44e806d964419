"""The page as one browser has it: the tree and a node beside each other, or what the server does."""

from __future__ import annotations

from collections.abc import Callable

from nicegui import ui

from ..errors import SnapservWarning
from ..figures import space
from ..protocol import NodeInfo
from .activity import ActivityPage
from .dialogs import show_keys
from .panes import NodePane
from .parts import Button, Field, box, text
from .pictures import Gallery
from .seen import Seen
from .session import Change, Session
from .tree import TreeView

THEMES = {"auto": None, "light": False, "dark": True}
THEME_COOKIE = "snapserv-theme"
KEYS = (
    ("↑ ↓ j k", "go through the tree"),
    ("← →", "close what comes of a node, and open it"),
    ("Enter", "open a node, where there is no room for both"),
    ("/", "search names, tags, states and messages"),
    ("s", "step the branch as its form says"),
    ("n", "take a snapshot"),
    ("b", "branch"),
    ("r", "restore"),
    ("m", "mark this moment of a branch"),
    ("c", "compare with another node"),
    ("x", "have others be compared with this one"),
    ("1 2 3 4 5", "the views of a node"),
    ("Esc", "back to the tree"),
    ("?", "these keys"),
)
MARK = (
    '<svg viewBox="0 0 20 20" fill="none" stroke-width="2" aria-hidden="true">'
    '<path class="lane-0" d="M5 2v16"/><path class="lane-1" d="M5 6c0 5 9 2 9 8v4"/>'
    '<circle class="lane-0" cx="5" cy="5" r="2.6" fill="var(--panel)"/>'
    '<circle class="lane-1" cx="14" cy="15" r="2.6" fill="var(--panel)"/></svg>'
)


class Page:
    """The page as one browser has it.

    Args:
        session: The server.
        gallery: Where pictures are put.
        theme: Light, dark, or as the browser's machine has it.
    """

    def __init__(self, session: Session, gallery: Gallery, theme: str) -> None:
        self._session = session
        self._seen = Seen(session, gallery, self._choose)
        self._theme = theme if theme in THEMES else "auto"
        self._activity: ActivityPage | None = None
        self._dark = ui.dark_mode(THEMES[self._theme])
        self._draw_bar()
        self._banner = box("banner", role="alert")
        with box("split", tag="main") as self._split:
            with box("left"):
                self._draw_tools()
                self.tree = TreeView(session, self._chosen, self._hold, self._pressed)
            right = box("right", role="region", aria_label="the chosen node")
        self._place = box("activity-place")
        self._place.style("display: contents")
        self._pane = NodePane(self._seen, right, self._back)
        self._tell_server()
        self._choose_first()
        self.tree.first()
        session.listeners.add(self._changed)
        warned.add(self._pane.warn)
        client = ui.context.client
        client.on_delete(self._end)

    def _end(self) -> None:
        self._session.listeners.discard(self._changed)
        warned.discard(self._pane.warn)

    def _draw_bar(self) -> None:
        with box("bar", tag="header"):
            with box("brand"):
                ui.html(MARK, sanitize=False, tag="span")
                text("snapserv")
            self._beat = box("beat", tag="span")
            text(self._session.reached.endpoint, "where")
            with box("tabs", role="tablist") as self._tabs:
                for name in ("Tree", "Activity"):
                    button = Button(name, lambda name=name: self._turn_to(name), classes="")  # type: ignore[misc]
                    button.props["role"] = "tab"
                    button.props["aria-selected"] = "true" if name == "Tree" else "false"
            box("gap")
            self._meter = text("", "meter")
            self._theme_button = Button(self._theme, self._next_theme, classes="plain", title="light, dark or auto")
            Button("?", lambda: show_keys(KEYS), classes="plain", title="keys")

    def _draw_tools(self) -> None:
        with box("tools"):
            with box("search"):
                self._search = Field(
                    "search nodes", placeholder="search  /", on_change=self._seek, classes="text", kind="search"
                )
            self._count = text("", "count")

    def _seek(self, sought: str) -> None:
        self.tree.seek(sought)
        self._tell_count()

    def _tell_count(self) -> None:
        nodes = len(self._session.nodes)
        found = self.tree.found
        self._count.set_text(f"{nodes:,} nodes" if found == nodes else f"{found:,} of {nodes:,}")

    def _tell_server(self) -> None:
        away = self._session.away
        self._beat.classes(replace="beat away" if away else "beat")
        self._beat.props["title"] = away or "the server answers"
        self._banner.visible = bool(away)
        self._banner.clear()
        with self._banner:
            text("The server is not there. ", tag="b")
            text(f"{away}. What is shown is what was known last; the page looks for it every second.")
        self._tell_count()

    def _choose_first(self) -> None:
        """Choose the branch that was made first, which is main."""
        branches = [node for node in self._session.nodes.values() if node.kind == "branch"]
        first: NodeInfo | None = min(
            branches or self._session.nodes.values(), key=lambda node: node.id, default=None
        )
        if first is not None:
            self.tree.selected = first.id
        self._pane.show(None if first is None else first.id)

    def _choose(self, node: int) -> None:
        self.tree.choose(node)
        self._pane.show(node)

    def _chosen(self, node: int, opened: bool) -> None:
        if opened:
            self._split.classes(add="opened")
        self._pane.show(node)

    def _back(self) -> None:
        self._split.classes(remove="opened")

    def _hold(self, node: int) -> None:
        self._seen.held = None if self._seen.held == node else node
        self.tree.held = self._seen.held
        self.tree.refresh()
        self._pane.refresh()

    def _pressed(self, key: str) -> None:
        if key == "?":
            with self._place:
                show_keys(KEYS)
        elif key == "Escape":
            self._back()
        elif key == "x":
            if self.tree.selected is not None:
                self._hold(self.tree.selected)
        else:
            self._pane.press(key)

    def _turn_to(self, name: str) -> None:
        for tab, each in zip(self._tabs, ("Tree", "Activity"), strict=True):
            tab.props["aria-selected"] = "true" if each == name else "false"
        self._split.visible = name == "Tree"
        self._place.clear()
        self._activity = None
        if name == "Activity":
            with self._place:
                self._activity = ActivityPage(self._session)

    def _next_theme(self) -> None:
        themes = list(THEMES)
        self._theme = themes[(themes.index(self._theme) + 1) % len(themes)]
        self._dark.set_value(THEMES[self._theme])
        self._theme_button.set_text(self._theme)
        ui.run_javascript(
            f"document.cookie = '{THEME_COOKIE}={self._theme}; path=/; max-age=31536000; samesite=lax'"
        )

    def _changed(self, what: Change) -> None:
        if what == "server":
            self._tell_server()
            if not self._session.away:
                self.tree.lay_out()
                if self.tree.selected not in self._session.nodes:
                    self._choose_first()
                    self.tree.choose(self.tree.selected)
                self._pane.refresh()
        elif what == "tree":
            self.tree.lay_out()
            self._tell_count()
            self._pane.refresh()
        elif what == "nodes":
            self.tree.refresh()
            self._pane.refresh()
        elif what == "activity":
            self._tell_meter()
            if self._activity is not None:
                self._activity.refresh()
        elif what == "event" and self._activity is not None:
            self._activity.show_events()

    def _tell_meter(self) -> None:
        now = self._session.activity[-1][1]
        memory = now.stats.memory
        self._meter.set_text(
            f"{now.steps_per_s:,.0f} steps/s · {now.requests_per_s:,.0f} req/s · "
            f"{space(memory.charged_bytes)} of {space(memory.limit_bytes)}"
        )


warned: set[Callable[[SnapservWarning], None]] = set()
"""Who is told what requests are told besides."""
