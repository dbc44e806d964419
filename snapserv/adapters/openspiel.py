"""Games of OpenSpiel: ``openspiel:GAME``, or with arguments ``openspiel:kuhn_poker(players=3)``.

An action is the input of a step. What chance does in between is drawn from the simulation's own random stream.

Source: OpenSpiel's concepts, https://openspiel.readthedocs.io/en/latest/concepts.html
"""

from __future__ import annotations

import difflib
from typing import Annotated, Any, ClassVar

import msgspec
import numpy as np
import pyspiel  # type: ignore[import-untyped,import-not-found,unused-ignore]
from snapserv_client.plain import Value

from snapserv.errors import BadRequestError, NotFoundError
from snapserv.simulation.base import Simulation, exported


def adapt(rest: str) -> type[Simulation]:
    """Return the class that serves the game ``rest``.

    Raises:
        NotFoundError: There is no such game; close matches are named.
        BadRequestError: It takes no such arguments, or is a mean field game.
    """
    name, known = rest.partition("(")[0], pyspiel.registered_names()
    if name not in known:
        close = difflib.get_close_matches(name, known, n=3)
        hint = f"did you mean {' or '.join(close)}?" if close else "pyspiel.registered_names() lists them"
        raise NotFoundError(f"no game {name!r}", hint=hint)
    try:
        game = pyspiel.load_game(rest)
    except (pyspiel.SpielError, RuntimeError) as cause:
        raise BadRequestError(f"{rest}: {cause}", hint="write openspiel:GAME(name=value,...)") from cause
    kind = game.get_type()
    if kind.dynamics == pyspiel.GameType.Dynamics.MEAN_FIELD:
        raise BadRequestError(f"{rest} is a mean field game", hint="games of moves are served")
    doc = f"{kind.long_name}, for {game.num_players()} players, of OpenSpiel."
    return type(kind.short_name, (OpenSpielSimulation,), {"served": rest, "__doc__": doc})


class OpenSpielSimulation(Simulation):
    """A game of OpenSpiel."""

    served: ClassVar[str]

    class Inputs(msgspec.Struct):
        """An action, by its number or by its name; where all players move at once, one of each."""

        action: Value = None

    def setup(self, seed: Annotated[int, msgspec.Meta(ge=0)] = 0) -> None:
        """Begin a game.

        Args:
            seed: Of what chance does.
        """
        self.game = pyspiel.load_game(self.served)
        self.chance = self.rng  # there from the beginning, so that branches have streams of their own
        self.reset()

    def step(self, inputs: Inputs) -> dict[str, Value]:
        """Make a move, and have chance make its own.

        Raises:
            BadRequestError: The move is not legal now.
        """
        if self.state.is_simultaneous_node():
            self.state.apply_actions(self._joint(inputs.action))
        else:
            self.state.apply_action(self._legal(inputs.action, self.state.current_player()))
        self._let_chance_move()
        return self.outputs()

    @exported
    def reset(self) -> dict[str, Value]:
        """Begin another game; return the outputs at its beginning."""
        self.state = self.game.new_initial_state()
        self._let_chance_move()
        return self.outputs()

    @exported
    def outputs(self) -> dict[str, Value]:
        """Return whose move it is, which are legal, the rewards of the last move and the returns, and the board."""
        over = self.state.is_terminal()
        return {
            "player": None if over or self.state.is_simultaneous_node() else self.state.current_player(),
            "legal_actions": [] if over else self._every_legal(),
            "rewards": list(self.state.rewards()),
            "returns": list(self.state.returns()),
            "terminal": over,
            "text": str(self.state),
        }

    @exported
    def observe(self, player: int) -> dict[str, Value]:
        """Return what a player sees: its tensors and texts, those that the game provides.

        Raises:
            BadRequestError: There is no such player.
        """
        if not 0 <= player < self.game.num_players():
            raise BadRequestError(f"player {player}", hint=f"players are 0 to {self.game.num_players() - 1}")
        kind, state = self.game.get_type(), self.state
        seen: dict[str, Value] = {}
        if kind.provides_observation_tensor:
            shape = self.game.observation_tensor_shape()
            seen["observation"] = np.array(state.observation_tensor(player), np.float32).reshape(shape)
        if kind.provides_information_state_tensor:
            shape = self.game.information_state_tensor_shape()
            seen["information_state"] = np.array(state.information_state_tensor(player), np.float32).reshape(shape)
        if kind.provides_observation_string:
            seen["observation_text"] = state.observation_string(player)
        if kind.provides_information_state_string:
            seen["information_state_text"] = state.information_state_string(player)
        return seen

    @exported
    def action_names(self) -> dict[str, int]:
        """Return the legal actions of whose move it is, by their names."""
        player = self.state.current_player()
        if player < 0:
            raise BadRequestError("it is nobody's move alone")
        return {self.state.action_to_string(player, each): each for each in self.state.legal_actions(player)}

    @exported
    def random_action(self) -> dict[str, Value]:
        """Return a legal move by chance: a policy for rollouts.

        Raises:
            BadRequestError: The game is over.
        """
        if self.state.is_terminal():
            raise BadRequestError("the game is over", hint="reset begins another")
        if self.state.is_simultaneous_node():
            return {"action": [int(self.chance.choice(each)) for each in self._every_legal()]}
        return {"action": int(self.chance.choice(self.state.legal_actions()))}

    def example_inputs(self) -> dict[str, Value]:
        """Return a legal move by chance."""
        return self.random_action()

    @property
    def finished(self) -> bool:  # type: ignore[override]  # the game says so, and nobody sets it
        """Whether the game is over."""
        return bool(self.state.is_terminal())

    def _let_chance_move(self) -> None:
        while self.state.is_chance_node():
            actions, chances = zip(*self.state.chance_outcomes(), strict=True)
            chance = np.asarray(chances)
            self.state.apply_action(int(self.chance.choice(actions, p=chance / chance.sum())))

    def _every_legal(self) -> list[Any]:
        if self.state.is_simultaneous_node():
            return [self.state.legal_actions(player) for player in range(self.game.num_players())]
        found: list[Any] = self.state.legal_actions()
        return found

    def _joint(self, given: Any) -> list[int]:
        players = self.game.num_players()
        if not isinstance(given, list | tuple | np.ndarray) or len(given) != players:
            raise BadRequestError(
                f"action: {given!r}", hint=f"a list of {players} actions: all players move at once"
            )
        return [self._legal(each, player) for player, each in enumerate(given)]

    def _legal(self, given: Any, player: int) -> int:
        legal = self.state.legal_actions(player)
        if isinstance(given, str):
            found = next((each for each in legal if self.state.action_to_string(player, each) == given), None)
        else:
            whole = isinstance(given, int | np.integer) and not isinstance(given, bool)
            found = next((each for each in legal if whole and each == given), None)
        if found is None:
            some = ", ".join(f"{each} ({self.state.action_to_string(player, each)})" for each in legal[:8])
            more = "" if len(legal) <= 8 else f" and {len(legal) - 8} more"
            raise BadRequestError(
                f"action: {given!r} is not legal for player {player}", hint=f"legal: {some}{more}"
            )
        return int(found)
