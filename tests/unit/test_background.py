"""Work that knows no deadline: nobody waits longer than its own, and no answer is lost for ever."""

from __future__ import annotations

import threading

import pytest

from tests.unit.issuing import Clock, deadline
from tokenvend.background import FRESH, Background
from tokenvend.errors import DeadlineExceeded, UpstreamUnavailable

LATE = DeadlineExceeded(cause="late")


class Slow:
    """Work that ends when a test lets it; each result is another number."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.done = 0

    def __call__(self) -> int:
        assert self.gate.wait(10)
        self.done += 1
        return self.done

    def late(self, background: Background[int]) -> None:
        """A result that comes when nobody waits for it any more."""
        self.gate.clear()
        with pytest.raises(DeadlineExceeded):
            background.join(deadline(0.05), late=LATE)
        (worker,) = [each for each in threading.enumerate() if each.name.endswith("(_do)")]
        self.gate.set()
        worker.join(10)


def test_an_answer_that_always_comes_too_late_is_the_next_ones() -> None:
    slow, clock = Slow(), Clock()
    background = Background(slow, now=clock)
    slow.late(background)
    clock.now += FRESH - 1
    assert background.join(deadline(), late=LATE) == 1
    # Once: whoever comes after gets a new one.
    assert background.join(deadline(), late=LATE) == 2


def test_a_late_answer_is_not_used_when_it_is_old() -> None:
    slow, clock = Slow(), Clock()
    background = Background(slow, now=clock)
    slow.late(background)
    clock.now += FRESH + 1
    assert background.join(deadline(), late=LATE) == 2


def test_without_a_clock_no_late_answer_is_kept() -> None:
    slow = Slow()
    background = Background(slow)
    slow.late(background)
    assert background.join(deadline(), late=LATE) == 2


def test_a_thread_that_cannot_start_holds_up_nobody_after_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    background = Background(lambda: "done")

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        with pytest.raises(RuntimeError):
            background.join(deadline(), late=LATE)
    assert background.join(deadline(), late=LATE) == "done"


def unreadable(error: Exception) -> Exception:
    raise KeyError(f"no such member of ya29.secret: {error}")


@pytest.mark.parametrize(
    ("raised", "failure", "seen"),
    [
        (ValueError("ya29.secret"), lambda _: UpstreamUnavailable(cause="told"), "told"),
        (ValueError("ya29.secret"), unreadable, "KeyError"),
        (SystemExit("ya29.secret"), unreadable, ""),
    ],
    ids=["as its failure says", "a failure that fails", "an exit"],
)
def test_whatever_ends_the_work_is_told_to_who_waits_without_its_text(
    raised: BaseException, failure: object, seen: str
) -> None:
    def work() -> None:
        raise raised

    background = Background(work, failure)  # type: ignore[arg-type]
    with pytest.raises((UpstreamUnavailable, RuntimeError)) as caught:
        background.join(deadline(), late=LATE)
    assert seen in f"{caught.value}{getattr(caught.value, 'cause', '')}"
    assert "secret" not in repr(caught.value)
