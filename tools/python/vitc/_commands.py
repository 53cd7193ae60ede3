"""What the command line does, from Python."""
from __future__ import annotations

import ctypes
import dataclasses
import json
import os
import queue
import tempfile
import threading
from collections.abc import Callable, Iterator
from ctypes import byref, c_char_p, c_void_p
from typing import Any

from ._library import CHECK_FAILED, INTERRUPTED, Callbacks, Cancelled, Error, Output, Progress, Told, check, encoded, lib, text


@dataclasses.dataclass(frozen=True)
class Step:
    """How far long work is: what is done, how much of it, and a figure worth showing, which may be empty."""
    phase: str
    done: int
    total: int
    figure: str


@dataclasses.dataclass(frozen=True)
class Message:
    """What a user should know: "error", "warning" or "note", a stable code, and the text."""
    severity: str
    code: str
    text: str


def command(
    *words: str | os.PathLike[Any], progress: Callable[[Step], Any] | None = None, message: Callable[[Message], Any] | None = None,
    cancelled: Callable[[], bool] | None = None, allow_failed_check: bool = False,
) -> str:
    """Does what `vitc WORDS…` does, and returns what that would print.

    An exception in a callback stops the work and is raised here. A check that finds what it looks for, as `diff` a difference, is
    an Error with status 1, unless `allow_failed_check`."""
    pieces: list[bytes] = []
    raised: list[BaseException] = []

    def guarded(action: Callable[..., Any] | None, *arguments: Any) -> Any:
        if action is None or raised:
            return None
        try:
            return action(*arguments)
        except BaseException as error:  # raised again in the caller's thread
            raised.append(error)
            return None

    callbacks = Callbacks(
        size=ctypes.sizeof(Callbacks),
        output=Output(lambda _, data, size: pieces.append(ctypes.string_at(data, size))),
        message=Told(lambda _, severity, code, what: guarded(
            message, Message(text(severity) or "", text(code) or "", text(what) or ""))),
        progress=Progress(lambda _, phase, done, total, figure: guarded(
            progress, Step(text(phase) or "", done, total, text(figure) or ""))),
        cancelled=Cancelled(lambda _: 1 if raised or guarded(cancelled) else 0))
    given = [encoded(word) for word in words]
    error = c_void_p()
    ended: list[int] = []
    over = threading.Event()

    def work() -> None:
        try:
            ended.append(lib.vitc_command((c_char_p * len(given))(*given), len(given), byref(callbacks), byref(error)))
        finally:
            over.set()

    # In a thread of its own: while the library works, Ctrl-C reaches Python in the caller's.
    threading.Thread(target=work, daemon=True).start()
    while not over.is_set():
        try:
            over.wait()
        except BaseException as stop:  # raised again once the work has stopped
            raised.append(stop)
    status = ended[0]
    if raised:
        if error.value:
            lib.vitc_error_free(error)
        raise raised[0]
    if not (status == CHECK_FAILED and not error.value and allow_failed_check):
        check(status, error)
    return b"".join(pieces).decode("utf-8", "surrogateescape")


def compile(
    teacher: str | os.PathLike[Any], output: str | os.PathLike[Any], *, progress: Callable[[Step], Any] | None = None,
    message: Callable[[Message], Any] | None = None, cancelled: Callable[[], bool] | None = None, **options: Any,
) -> dict[str, Any]:
    """Compiles a teacher to a hybrid, and returns the report (schemas/report.schema.json).

    Options are those of `vitc compile`, with _ for -: `data="photos/"`, `min_agreement=0.95`, `no_train=True`; a list gives an option
    several times, None and False leave it out."""
    words: list[Any] = ["compile", teacher, "-o", output]
    for name, value in options.items():
        flag = "--" + name.replace("_", "-")
        for each in value if isinstance(value, (list, tuple)) else [value]:
            if each is True:
                words.append(flag)
            elif each is not None and each is not False:
                words += [flag, os.fspath(each) if isinstance(each, os.PathLike) else str(each)]
    with tempfile.TemporaryDirectory() as folder:
        report = options.get("report")
        if not report or os.fsdecode(report).endswith(".html"):
            if report:
                raise ValueError("report names a .json here: vitc.command('report', …) makes a page of it")
            report = os.path.join(folder, "report.json")
            words += ["--report", report]
        command(*words, progress=progress, message=message, cancelled=cancelled)
        with open(report, encoding="utf-8") as file:
            return json.load(file)


class compiling(Iterator[Step]):
    """A compile as an iterator over how far it is: takes what `compile` takes, but for progress and cancelled. `report` has the result once it is
    through; one that is closed, or dropped before the end, stops the work."""

    def __init__(self, teacher: str | os.PathLike[Any], output: str | os.PathLike[Any], **options: Any):
        self.report: dict[str, Any] | None = None
        self._ended = False
        steps: queue.Queue[Step | dict[str, Any] | BaseException] = queue.Queue()
        stop = threading.Event()

        # It knows nothing of this object, which can go while it works.
        def work() -> None:
            try:
                steps.put(compile(teacher, output, progress=steps.put, cancelled=stop.is_set, **options))
            except BaseException as error:  # raised again by __next__
                steps.put(error)

        self._steps, self._stop = steps, stop
        self._thread = threading.Thread(target=work, daemon=True)
        self._thread.start()

    def __next__(self) -> Step:
        if self._ended:
            raise StopIteration
        found = self._steps.get()
        if isinstance(found, Step):
            return found
        self._ended = True
        self._thread.join()
        if isinstance(found, BaseException):
            raise found
        self.report = found
        raise StopIteration

    def close(self) -> None:
        """Stops the work where it is not through, and waits for it."""
        self._stop.set()
        self._thread.join()
        self._ended = True

    def __enter__(self) -> compiling:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def __del__(self) -> None:
        if hasattr(self, "_stop"):
            self._stop.set()


__all__ = ["INTERRUPTED", "Error", "Message", "Step", "command", "compile", "compiling"]
