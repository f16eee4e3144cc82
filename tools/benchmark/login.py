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

    def seconds_to_prompt(self, monitor):
        guest = Guest(monitor_command(monitor, self.kernel, self.root, append='quiet', memory=MEMORY))
        try:
            guest.expect(PROMPT, LIMIT)
            return guest.seconds_since_start()
        finally:
            guest.kill()
