"""Ctrl-Z (SIGTSTP) waits for the end of a transaction: a program that is stopped within one would
hold up every other writer of the database until it goes on.

Only where ``stop_between_transactions`` was called, as commands do. A SIGSTOP cannot be put off.
"""

from __future__ import annotations

import os
import signal
import threading


class _Transactions:
    """How many are open in this process, and whether a stop waits for their end."""

    def __init__(self) -> None:
        self.counted = False
        self.wanted = False
        self._open = 0
        self._lock = threading.Lock()

    def change(self, by: int) -> None:
        with self._lock:
            self._open += by
            due = self.wanted and not self._open
            if due:
                self.wanted = False
        if due:
            os.kill(os.getpid(), signal.SIGSTOP)

    def stop(self, _number: int, _frame: object) -> None:
        """Stop now, or at the end of the last transaction. Takes no lock: it interrupts whatever
        the main thread does."""
        self.wanted = bool(self._open)
        if not self.wanted:
            os.kill(os.getpid(), signal.SIGSTOP)


_transactions = _Transactions()


def stop_between_transactions() -> None:
    """Let SIGTSTP stop this program only where no transaction is open; main thread only. A program
    that was started with the signal ignored goes on ignoring it."""
    if signal.getsignal(signal.SIGTSTP) is signal.SIG_DFL:
        _transactions.counted = True
        signal.signal(signal.SIGTSTP, _transactions.stop)


def enter_transaction() -> None:
    """One begins in this thread, or waits for its turn."""
    if _transactions.counted:
        _transactions.change(1)


def leave_transaction() -> None:
    """It has ended."""
    if _transactions.counted:
        _transactions.change(-1)
