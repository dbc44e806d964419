"""What commands there are: those of the client, and those that need the server's packages; see its contents."""

from __future__ import annotations

from snapserv_client.cli.contents import (
    CLUSTERS,
    COMMANDS,
    EXAMPLES,
    KEEP,
    LOOK,
    RUN,
    SECTIONS,
    SERVERS,
    Contents,
    Group,
)

OWN: Contents = {
    "snapserv.cli.serve": {
        "serve": "Run a simulation's setup, then answer clients until SIGTERM, Ctrl-C or `snapserv shutdown`.",
    },
    "snapserv.cli.demo": {
        "demo": "Burn real terrain, snapshot the fire, and let it go on under four different winds at once.",
    },
    "snapserv.cli.servers": {
        "ps": "List this user's servers on this machine, and what those have left that were killed.",
    },
    "snapserv.cli.store": {
        "store": "Look into a store, read it, keep it in order: no server is needed.",
    },
    "snapserv_client.cli.cluster": {
        "cluster": "The same tree over many machines, on Ray: begin it, look at it, end it.",
    },
    "snapserv.cli.doctor": {
        "doctor": "Say what this machine can do and how to improve it; or what of a simulation will not branch "
        "well, and why.",
    },
    "snapserv.cli.lab": {
        "lab": "Measure every way to snapshot memory that can be had here, side by side; fails where none could "
        "be.",
    },
    "snapserv.cli.keygen": {
        "keygen": "Make the keys of a server, or of a client, whom the server then lets in, also while it runs.",
    },
}

STORE: Contents = {
    "snapserv.cli.store": {
        "ls": "Show all nodes as trees.",
        "show": "Say what a node is, what it was taken of, and whether it can be brought back on this machine.",
        "read": "Read a field of a node: a summary, and a file if asked.",
        "verify": "Read everything, and check it; exits with 4 where something is damaged or missing.",
        "gc": "Remove what no node needs; servers may go on saving meanwhile.",
        "du": "Say how much each tree and node takes: for itself alone, and together with others.",
        "rm": "Remove nodes; their descendants stay. What only they needed goes with `store gc`.",
        "push": "Copy nodes to another store, with all that they need: only what is not there, and their roots.",
        "pull": "Copy nodes out of another store, with all that they need: only what is not here, and their roots.",
    },
}

GROUPS = {
    "store": Group(
        STORE,
        {
            "Look": ("ls", "show", "read", "verify", "du"),
            "Change": ("rm", "gc", "push", "pull"),
        },
        ("snapserv store ls", "snapserv store read before state"),
    ),
    "cluster": CLUSTERS,
}
SNAPSERV = Group(
    {**COMMANDS, **OWN},
    {
        RUN: SECTIONS[RUN],
        LOOK: SECTIONS[LOOK],
        KEEP: (*SECTIONS[KEEP], "store"),
        SERVERS: ("serve", "ps", "cluster", *SECTIONS[SERVERS], "demo", "doctor", "lab", "keygen"),
    },
    ("snapserv serve snapserv.examples.wildfire:Wildfire --detach", *EXAMPLES),
    GROUPS,
)
