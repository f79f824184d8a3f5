"""Runs that are cut in the middle, at random: by the client, by SIGKILL, by SIGTERM.

After every cut, whatever it was: what was shown is stored and is shown again by nobody's doing
but a resume; nothing is lost, nothing is shown twice, and the run ends once.
"""

import random
import sys
from collections import Counter
from collections.abc import Callable, Generator
from dataclasses import dataclass, field

import httpx
import pytest

from product import Client, Kept, Product, check, product, run_of
from served import Json, Simulator

WISH: Json = {
    "channels": ["instagram", "bluesky"],
    "cadence": "daily",
    "start": "2027-03-01",
    "end": "2027-03-06",
    "timezone": "Europe/Madrid",
}
SLOTS = 12
CLIENT, KILL, STOP = "client cut", "SIGKILL", "SIGTERM"
LONG_LEASE_S = "600"  # whoever waited for it to be over would be seen waiting
GAP_MS = {CLIENT: 15, KILL: 250, STOP: 250}


@dataclass(slots=True)
class Tally:
    """What was cut, and what came of it."""

    cuts: Counter[str] = field(default_factory=Counter[str])
    runs: Counter[str] = field(default_factory=Counter[str])
    shown: int = 0

    def __str__(self) -> str:
        return (
            f"{self.cuts.total()} cuts {dict(self.cuts)} in {self.runs.total()} runs"
            f" {dict(self.runs)}: {self.shown} entries shown, 0 lost, 0 doubled"
        )


@pytest.fixture(scope="module")
def shared_instance(
    simulator: Simulator, tmp_path_factory: pytest.TempPathFactory
) -> Generator[Product]:
    """One product with its own Postgres, for all the cuts of this module."""
    home = tmp_path_factory.mktemp("cut") / "home"
    settings = {
        "AI_BASE_URL": f"{simulator.url}/v1",
        "AI_MODEL": "sim-ok",
        "RUN_LEASE_S": LONG_LEASE_S,
        "REQUEST_BUDGET_S": "15",
        "DRAIN_S": "4",
    }
    with product(home, **settings) as running:
        yield running


@pytest.fixture
def instance(shared_instance: Product) -> Product:
    """The product, running, whatever an earlier test left of it."""
    if shared_instance.process is None:
        shared_instance.start()
    return shared_instance


def after(count: int) -> Callable[[Kept], bool]:
    return lambda kept: len(kept.entries) >= count


def cut_by_client(instance: Product, dice: random.Random, tally: Tally) -> None:
    """Leave a run once, twice or thrice, politely or not, and come back each time."""
    client = instance.client()
    places = sorted(dice.sample(range(SLOTS - 1), dice.randint(1, 3)))
    rude = [dice.random() < 0.5 for _ in places]
    kept = client.begin(WISH, until=after(places[0]), rude=rude[0])
    for place, is_rude in zip(places[1:], rude[1:], strict=True):
        tally.cuts[CLIENT] += 1
        client.follow(kept, until=after(place), rude=is_rude)
    tally.cuts[CLIENT] += 1
    client.follow_to_the_end(kept)
    assert kept.ends[0]["status"] == "completed"
    assert len(kept.entries) == SLOTS
    counted(instance, client, kept, tally)


def cut_by_kill(instance: Product, dice: random.Random, tally: Tally) -> None:
    """Take the product's power away while a run shows; the next boot ends it at once."""
    client = instance.client()
    kept = shown_until(instance, client, dice.randrange(SLOTS // 2), Product.kill)
    tally.cuts[KILL] += 1
    before = list(kept.shown)
    instance.start()
    client.follow_to_the_end(kept)
    assert (kept.ends[0]["status"], kept.ends[0]["reason"]) == ("interrupted", "process_lost")
    assert kept.shown[: len(before)] == before
    assert len(kept.shown) < SLOTS, "it was generated again"
    row = run_of(instance, kept.run_id)
    assert row["finished_at"] < row["lease_until"], "the new boot waited for the lease"
    counted(instance, client, kept, tally)


def cut_by_stop(instance: Product, dice: random.Random, tally: Tally) -> None:
    """Ask the product to stop while a run shows: it ends the run itself, or lets it finish."""
    client = instance.client()
    kept = shown_until(instance, client, dice.randrange(SLOTS // 2), stop_cleanly)
    tally.cuts[STOP] += 1
    instance.start()
    client.follow_to_the_end(kept)
    end = (kept.ends[0]["status"], kept.ends[0]["reason"])
    assert end in {("interrupted", "shutdown"), ("completed", None)}
    counted(instance, client, kept, tally)


def stop_cleanly(instance: Product) -> None:
    assert instance.terminate() == 0


def shown_until(
    instance: Product, client: Client, count: int, act: Callable[[Product], object]
) -> Kept:
    """Start a run, act when so many entries were shown, and keep what still arrives."""
    kept = Kept("")
    has_acted = False

    def act_once(current: Kept) -> bool:
        nonlocal kept, has_acted
        kept = current
        if not has_acted and len(current.entries) >= count:
            has_acted = True
            act(instance)
        return False

    try:
        client.begin(WISH, until=act_once)
    except httpx.TransportError:
        assert has_acted
    assert has_acted
    assert not kept.is_over, "it was over before it was cut"
    return kept


def counted(instance: Product, client: Client, kept: Kept, tally: Tally) -> None:
    check(instance, client, kept)
    tally.runs[f"{kept.ends[0]['status']}/{kept.ends[0]['reason']}"] += 1
    tally.shown += len(kept.shown)


CUTS = {CLIENT: cut_by_client, KILL: cut_by_kill, STOP: cut_by_stop}


def cut(
    instance: Product, simulator: Simulator, kinds: dict[str, int], seed: int | None = None
) -> Tally:
    """Cut that often, in random order; the seed is printed, so that it can be done again."""
    seed = random.SystemRandom().randrange(2**32) if seed is None else seed
    sys.stdout.write(f"seed {seed}\n")
    dice, tally = random.Random(seed), Tally()  # noqa: S311  # where to cut, no secret
    while left := [kind for kind, count in kinds.items() if tally.cuts[kind] < count]:
        kind = dice.choice(left)
        with simulator.plays("ok", entryGapMs=GAP_MS[kind]):
            CUTS[kind](instance, dice, tally)
    sys.stdout.write(f"{tally}\n")
    return tally


def test_20_random_cuts_lose_nothing_and_show_nothing_twice(
    instance: Product, simulator: Simulator
) -> None:
    tally = cut(instance, simulator, {CLIENT: 15, KILL: 3, STOP: 2})
    assert tally.cuts.total() >= 20


@pytest.mark.verify
def test_200_random_cuts_lose_nothing_and_show_nothing_twice(
    instance: Product, simulator: Simulator
) -> None:
    tally = cut(instance, simulator, {CLIENT: 150, KILL: 35, STOP: 15})
    assert tally.cuts.total() >= 200


def test_an_id_that_the_run_never_had_resets_the_client_and_shows_all(
    instance: Product, simulator: Simulator
) -> None:
    with simulator.plays("ok", entryGapMs=0):
        client = instance.client()
        kept = client.begin(WISH, until=lambda _kept: False)
    lost = Kept(kept.calendar_id, kept.run_id, last_id="7.99")
    client.follow(lost)
    assert lost.resets == 1
    assert (lost.ids, lost.entries, lost.ends) == (kept.ids, kept.entries, kept.ends)
