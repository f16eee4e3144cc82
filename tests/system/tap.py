"""Test results as TAP: the Test Anything Protocol."""
import sys


class Tap:
    """Counts and prints test cases."""

    def __init__(self):
        self.number = 0
        self.failures = 0

    def report(self, name, problem=None, skip=None, lines=()):
        """One line; what is wrong, if anything, is a text, an exception or anything else that can be printed, and stands below."""
        self.number += 1
        self.failures += bool(problem)
        print(f'{"not ok" if problem else "ok"} {self.number} - {name}{f" # SKIP {skip}" if skip else ""}')
        if problem:
            text = f'{type(problem).__name__}: {problem}' if isinstance(problem, Exception) else problem
            self.note(text)
            for line in lines:
                self.note(f'    {line}')
            if not sys.stdout.isatty():  # who runs the tests shows what stands there of those that fail
                print(name, text, *lines, sep='\n', file=sys.stderr)
        sys.stdout.flush()

    @staticmethod
    def note(text):
        for line in str(text).splitlines():
            print(f'# {line}', flush=True)

    def finish(self):
        """Print the plan; ends the program."""
        print(f'1..{self.number}')
        sys.exit(1 if self.failures else 0)
