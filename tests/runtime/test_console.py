"""What a person reads: lengths of time, and what a terminal shows of bars, notes between them, and Ctrl-C."""

import os
import pty
import re
import subprocess
import sys
import termios
from pathlib import Path

import pytest

from attngan.runtime import console

ROOT = Path(__file__).resolve().parents[2]
NOTE = "generator: all 368 steps take about 0:01:40 here, which is more than a line of sixty or of eighty columns has"
BAR = """
from attngan.runtime.console import progress, say
with progress("generator", total=2944, unit="images") as advance:
    advance(192, "loss 12.25")
"""
SAID = BAR + f"    say({NOTE!r})\n    advance(100)"
STOPPED = BAR.replace("\nwith", "\nimport os, signal\nfrom attngan.runtime.stopping import stop_request\nwith") + (
    "    with stop_request():\n"
    "        os.write(1, b'^C')  # the terminal's own echo\n"
    "        os.kill(os.getpid(), signal.SIGINT)"
)


def written(code, columns):
    """Return what a program writes to a terminal."""
    ours, its = pty.openpty()
    termios.tcsetwinsize(its, (24, columns))
    kept = {key: value for key, value in os.environ.items() if key not in ("COLUMNS", "LINES", "NO_COLOR")}
    with subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, env={**kept, "TERM": "xterm"}, stdin=its, stdout=its, stderr=its
    ) as program:
        os.close(its)
        text = b""
        try:
            while piece := os.read(ours, 2**16):
                text += piece
        except OSError:  # EIO: the program has ended
            pass
    os.close(ours)
    assert program.returncode == 0, text.decode()
    return text.decode()


def shown(text, columns):
    """Return the rows that a terminal shows of it, with the few control codes that bars need."""
    rows, row, column = [""], 0, 0
    for code, count, kind, char in re.findall(r"(\x1b\[\??(\d*)[\d;]*([A-Za-z]))|(.)", text, re.DOTALL):
        if kind == "K":
            assert count == "2"
            rows[row] = ""
        elif kind == "A":
            row = max(0, row - int(count))
        elif code:
            assert kind in "mhl"  # colours, and the cursor's being seen
        elif char == "\r":
            column = 0
        else:
            if char == "\n" or column == columns:
                row, column = row + 1, column if char == "\n" else 0
                rows += [""] * (row + 1 - len(rows))
            if char != "\n":
                rows[row] = rows[row][:column].ljust(column) + char + rows[row][column + 1 :]
                column += 1
    return [each.rstrip() for each in rows if each.strip()]


@pytest.mark.parametrize("columns", [60, 80])
def test_a_note_stands_whole_above_a_bar_of_one_row(columns):
    *note, bar = shown(written(SAID, columns), columns)
    assert [len(row) for row in note] == [columns, len(NOTE) - columns] and "".join(note) == NOTE
    assert bar.startswith("generator ") and " 292/2944 " in bar and ("images/s" in bar) == (columns == 80)


@pytest.mark.parametrize("columns", [60, 80])
def test_what_ctrl_c_says_takes_the_place_of_the_bar(columns):
    said, bar = shown(written(STOPPED, columns), columns)
    assert said == "stopping after this step; again to stop at once"
    assert bar.startswith("generator ") and " 192/2944 " in bar


def test_lengths_of_time_are_words():
    minutes = [0, 0.5, 1, 3.2, 36, 59.5, 120, 130, 1500]
    words = ["a minute", "a minute", "a minute", "4 minutes", "36 minutes", "1 h", "2 h", "2 h 10 min", "25 h"]
    assert [console.duration(60 * each) for each in minutes] == words
