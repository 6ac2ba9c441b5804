import subprocess
import sys

import pytest

MAIN = """
import atexit, sys
from mshisto_ray.ending import end_at_once

class Undone:
    def __del__(self):
        print("undone")

kept = Undone()
with end_at_once():
    atexit.register(print, "handler")
    print("done")
    {end}
"""


@pytest.mark.parametrize(
    ("end", "code"),
    [("pass", 0), ("sys.exit()", 0), ("sys.exit(3)", 3), ("1 / 0", 1),
     ("sys.exit('said')", 1)],
)  # fmt: skip
def test_handlers_run_and_the_code_is_kept_while_nothing_is_undone(end, code):
    command = [sys.executable, "-c", MAIN.format(end=end)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == code
    assert done.stdout.split() == ["done", "handler"]
    assert ("ZeroDivisionError" in done.stderr) == (end == "1 / 0")
    assert ("said" in done.stderr) == ("said" in end)
