"""A Debian i386 root with systemd, as an initramfs, booted to its login prompt."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / 'tests/system'))
from serial_guest import Guest, find_files, monitor_command  # noqa: E402

ROW = 'login prompt'
MEMORY = 1024
PROMPT = r'guest login: '
LIMIT = 600


class System:
    def __init__(self):
        self.kernel = find_files('kernel')[0]
        self.root = find_files('system')[0]

    def start(self, monitor, options=()):
        return Guest(monitor_command(monitor, self.kernel, self.root, append='quiet', memory=MEMORY, options=options))

    @staticmethod
    def wait_for_login(guest):
        """Seconds since the start."""
        guest.expect(PROMPT, LIMIT)
        return guest.seconds_since_start()

    def seconds_to_prompt(self, monitor):
        guest = self.start(monitor)
        try:
            return self.wait_for_login(guest)
        finally:
            guest.kill()
