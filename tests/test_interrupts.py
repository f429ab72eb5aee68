"""A signal waits for work that can be saved, and for no other."""

import signal

import pytest

from jaxmed import interrupts


def test_work_that_is_postponed_ends_where_it_looks():
    with pytest.raises(interrupts.Interrupted) as raised, interrupts.postponed():
        assert not interrupts.is_asked()
        assert interrupts.ask(signal.SIGUSR1)
        # The batch system's next signal, or the same again, changes nothing.
        assert interrupts.ask(signal.SIGTERM)
        assert interrupts.ask(signal.SIGTERM)
        assert interrupts.is_asked()
        interrupts.stop()
    assert raised.value.number == signal.SIGUSR1
    assert isinstance(raised.value, KeyboardInterrupt)


def test_a_signal_that_was_not_looked_for_counts_at_the_end():
    done = []
    with pytest.raises(interrupts.Interrupted), interrupts.postponed():
        assert interrupts.ask(signal.SIGTERM)
        done.append("all")
    assert done == ["all"]
    assert not interrupts.is_asked()


def test_there_is_nothing_to_wait_for_outside_or_when_a_user_insists():
    assert not interrupts.ask(signal.SIGINT)
    with pytest.raises(interrupts.Interrupted), interrupts.postponed():
        assert interrupts.ask(signal.SIGINT)
        assert not interrupts.ask(signal.SIGINT)
    assert not interrupts.ask(signal.SIGTERM)


def test_an_error_is_not_hidden_by_a_signal():
    with pytest.raises(OSError, match="full"), interrupts.postponed():
        interrupts.ask(signal.SIGTERM)
        raise OSError("full")
