"""What is typed at the Debian guest's shell, and the answers that are checked. Each case starts and ends at a prompt."""

import hashlib
import math
import re
import struct
import time
from pathlib import Path

from serial_guest import CTRL_C, CTRL_Z, ESCAPE, GuestError

CASES = []


def case(function):
    CASES.append(function)
    return function


def same(actual, expected, what=''):
    if actual != expected:
        raise GuestError(f'{what}: got {actual!r}, expected {expected!r}')


def holds(text, *patterns):
    for pattern in patterns:
        if not re.search(pattern, text, re.MULTILINE):
            raise GuestError(f'no {pattern!r} in {text!r}')


def random_numbers(count):
    """Park and Miller's generator: exact in awk's doubles."""
    value, numbers = 42, []
    for _ in range(count):
        value = value * 16807 % 2147483647
        numbers.append(value)
    return numbers


def md5_lines(lines):
    return hashlib.md5(''.join(f'{line}\n' for line in lines).encode()).hexdigest()


def flags_of(cpuinfo):
    return re.search(r'^flags\s*: (.*)$', cpuinfo, re.MULTILINE)[1].split()


@case
def processor(guest):
    text = guest.run('cat /proc/cpuinfo')
    holds(text, r'^processor\s*: 0$', r'^fpu\s*: yes$')
    flags = flags_of(text)
    for flag in 'fpu tsc cx8 sep cmov mmx fxsr sse sse2'.split():
        if flag not in flags:
            raise GuestError(f'no {flag} among the flags {flags}')


@case
def processes(guest):
    text = guest.run('ps')
    holds(text, r'^ *PID +USER', r'^ *1 (root|0) .*linuxrc', r'\[kthreadd\]', r'\bps\b.*$')


@case
def mounts(guest):
    text = guest.run('mount')
    for kind in ('proc', 'sysfs', 'devtmpfs', 'devpts', 'tmpfs'):
        holds(text, rf'^{kind} on /\S+ type {kind} ')


@case
def pipes(guest):
    same(guest.run("echo one two three | tr ' ' '\\n' | sort | tail -n 1"), 'two', 'sorted words')
    same(guest.run("seq 1 10000 | awk '{s += $1} END {print s}'"), '50005000', 'sum of a sequence')
    same(guest.run('seq 1 20000 | cat | cat | cat | cat | cat | wc -l'), '20000', 'lines through six programs')
    same(guest.run('yes | head -n 3 | tr -d "\\n"; echo'), 'yyy', 'a writer whose reader ends')


@case
def digests(guest):
    zeros = bytes(1 << 20)
    expected = hashlib.md5(zeros * 32).hexdigest()
    same(guest.run('dd if=/dev/zero bs=1M count=32 2>/dev/null | md5sum', 60), f'{expected}  -', 'MD5 of zeros')
    expected = hashlib.sha256(zeros * 4).hexdigest()
    same(guest.run('dd if=/dev/zero bs=4k count=1024 2>/dev/null | sha256sum', 60), f'{expected}  -', 'SHA-256 of zeros')
    expected = hashlib.sha512(b'a' * 100000).hexdigest()
    same(guest.run("head -c 100000 /dev/zero | tr '\\0' a | sha512sum", 60), f'{expected}  -', 'SHA-512')


@case
def sorting(guest):
    numbers = random_numbers(40000)
    guest.run("awk 'BEGIN {x = 42; for (i = 0; i < 40000; i++) {x = x * 16807 % 2147483647; printf \"%d\\n\", x}}' >/tmp/numbers", 60)
    same(guest.run('md5sum </tmp/numbers'), md5_lines(numbers) + '  -', 'the numbers')
    same(guest.run('sort -n /tmp/numbers | md5sum', 60), md5_lines(sorted(numbers)) + '  -', 'sorted by value')
    same(guest.run('sort -r /tmp/numbers | md5sum', 60), md5_lines(sorted(map(str, numbers), reverse=True)) + '  -', 'by text, reversed')
    guest.run('rm /tmp/numbers')


@case
def background_jobs(guest):
    holds(guest.run('sleep 30 & jobs'), r'\[1\]\+? +Running +sleep 30')
    holds(guest.run('kill %1; wait %1; echo code $?'), r'^code 143$')
    guest.run('(sleep 1; echo a >>/tmp/done) & (sleep 1; echo b >>/tmp/done) &')
    holds(guest.run('wait; sort /tmp/done | tr -d "\\n"; rm /tmp/done; echo'), r'^ab$')


@case
def stop_and_continue(guest):
    guest.type('sleep 2; echo woken\r')
    time.sleep(1)
    guest.type(CTRL_Z)
    guest.wait_for_prompt()
    holds(guest.run('jobs'), r'Stopped +sleep 2')
    guest.type('fg\r')
    guest.wait_for_prompt()
    same(guest.run('jobs'), '', 'jobs')


@case
def interrupt_key(guest):
    for command in ('sleep 100', 'yes >/dev/null', 'cat', "awk 'BEGIN {while (1) i++}'"):
        guest.type(command + '\r')
        time.sleep(0.7)
        guest.type(CTRL_C)
        guest.wait_for_prompt(10)
        same(guest.run('echo code $?'), 'code 130', command)
    guest.type('while :; do :; done\r')
    time.sleep(0.7)
    guest.type(CTRL_C)
    guest.wait_for_prompt(10)


@case
def editor(guest):
    guest.type('vi /tmp/text\r')
    guest.expect(r'/tmp/text')
    for keys in ('ifirst line', ESCAPE, 'osecond lime', ESCAPE, 'othird', ESCAPE, 'kx', '0fmrn', 'jdd', 'ggyyp', ':wq\r'):
        guest.type(keys)
        time.sleep(0.3)
    guest.wait_for_prompt()
    same(guest.run('cat /tmp/text').splitlines(), ['first line', 'first line', 'secod line'], 'the text')
    guest.run('rm /tmp/text')


@case
def clock(guest):
    before = time.time()
    answer = int(guest.run('date -u +%s'))
    if not before - 2 <= answer <= time.time() + 2:
        raise GuestError(f'the guest says {answer}, the host {before:.1f}')
    start = time.monotonic()
    guest.run('cut -d" " -f1 /proc/uptime >/tmp/from; date +%s >>/tmp/from; sleep 3; cut -d" " -f1 /proc/uptime; date +%s')
    host = time.monotonic() - start
    if not 2.9 <= host <= 3.2 + guest.patience:
        raise GuestError(f'sleep 3 took {host:.2f} s')
    uptime, date = (float(word) for word in guest.run('cat /proc/uptime | cut -d" " -f1; date +%s').split())
    first_uptime, first_date = (float(word) for word in guest.run('cat /tmp/from; rm /tmp/from').split())
    elapsed = time.monotonic() - start
    if abs(uptime - first_uptime - elapsed) > 0.5 + 0.2 * guest.patience or abs(date - first_date - elapsed) > 2:
        raise GuestError(f'{elapsed:.2f} s on the host, {uptime - first_uptime:.2f} s of uptime, {date - first_date:.0f} s by date')


@case
def forks(guest):
    line = 'i=0; s=0; while [ $i -lt 200 ]; do /bin/true; s=$((s + $(echo $i))); i=$((i + 1)); done; echo $s'
    same(guest.run(line, 120), str(sum(range(200))), 'sum by subshells')
    line = 'for i in $(seq 1 60); do /bin/sh -c "exit $((i % 3))" & done; wait; ps | grep -c "sh -[c]"'
    holds(guest.run(line, 120), r'^0$')


@case
def signals(guest):
    same(guest.run("trap 'echo caught' USR1; kill -USR1 $$; trap - USR1"), 'caught', 'a handler')
    for number, code in ((9, 137), (11, 139), (15, 143), (8, 136)):
        holds(guest.run(f'/bin/sh -c "kill -{number} \\$\\$"; echo code $?'), rf'^code {code}$')
    same(guest.run("sh -c 'trap \"\" INT; kill -INT $$; echo alive'"), 'alive', 'an ignored signal')
    holds(guest.run('timeout 1 sleep 20; echo code $?'), r'^code 143$')


@case
def floating_point(guest):
    """Debian's busybox has awk without functions: four operations make a root, a power and two series."""
    program = ('BEGIN {x = 1; for (i = 0; i < 9; i++) x = (x + 2 / x) / 2; e = f = 1; for (i = 1; i < 20; i++) {f /= i; e += f}; '
               'for (i = 1; i <= 20000; i++) s += 1 / (i * i); p = 1; for (i = 0; i < 200; i++) p *= 2; '
               'printf "%.12f %.12f %.12f %.6e %g %d\\n", x, e, s, p, -1 / 3, 12345678901 / 7}')
    total = 0.0
    for i in range(1, 20001):
        total += 1 / (i * i)
    expected = f'{math.sqrt(2):.12f} {math.e:.12f} {total:.12f} {2.0**200:.6e} {-1 / 3:g} {12345678901 // 7}'
    same(guest.run(f"awk '{program}'"), expected, 'numbers')


@case
def floating_point_of_three(guest):
    """Each keeps its registers while the others run."""
    program = 'awk \'BEGIN {for (i = 1; i <= 60000; i++) s += SCALE / i; printf "%.9f\\n", s}\''
    scales = {'a': 1.0, 'b': -1.0, 'c': 0.7}
    line = ' & '.join(f"{program.replace('SCALE', str(scale))} >/tmp/{name}" for name, scale in scales.items())
    guest.run(f'{line} & wait', 90)
    answers = guest.run('cat /tmp/a /tmp/b /tmp/c; rm /tmp/a /tmp/b /tmp/c').split()
    for scale, answer in zip(scales.values(), answers[-3:], strict=True):
        total = 0.0
        for i in range(1, 60001):
            total += scale / i
        same(answer, f'{total:.9f}', f'the series times {scale}')


@case
def stopped_into_background(guest):
    """Ctrl-Z in the middle of a computation, which goes on behind the prompt and comes to the right end."""
    guest.type("awk 'BEGIN {for (i = 0; i < 1500000; i++) s += i; printf \"%.0f\\n\", s}' >/tmp/sum\r")
    time.sleep(0.4)
    guest.type(CTRL_Z)
    guest.wait_for_prompt()
    holds(guest.run('jobs'), r'Stopped +awk')
    guest.run('bg')
    holds(guest.run('wait; cat /tmp/sum; rm /tmp/sum', 90), rf'^{sum(range(1500000))}$')


@case
def killed(guest):
    holds(guest.run('sleep 1000 & kill -9 $!; wait $!; echo code $?'), r'^code 137$')
    line = "sh -c 'trap \"\" TERM INT HUP; while :; do :; done' & sleep 0.3; kill $!; kill -INT $!; kill -0 $! && kill -9 $!; wait $!; echo code $?"
    holds(guest.run(line), r'^code 137$')
    state = "cut -d' ' -f3 /proc/$p/stat"
    line = (f"awk 'BEGIN {{while (1) i++}}' & p=$!; kill -STOP $p; sleep 0.2; {state}; kill -CONT $p; sleep 0.2; {state}; kill $p; sleep 0.2; wait; "
            "kill -0 $p 2>/dev/null || echo gone")
    same([word for word in guest.run(line).split() if word in ('T', 'R', 'gone')], ['T', 'R', 'gone'], 'stopped, continued, ended')


@case
def a_script(guest):
    """A here-document, functions that call themselves, loops over input, arithmetic."""
    lines = ["cat >/tmp/script <<'END'", 'fib() { if [ $1 -lt 2 ]; then echo $1; else echo $(($(fib $(($1 - 1))) + $(fib $(($1 - 2))))); fi; }',
             'gcd() { while [ $2 -ne 0 ]; do set -- $2 $(($1 % $2)); done; echo $1; }', 'total=0', 'while read a b; do',
             'case $a in \\#*) continue ;; esac', 'total=$((total + $(gcd $a $b)))', 'done <<DATA', '# pairs', '1071 462',
             '$((6 * 9)) $((9 * 24))', '17 5', 'DATA', 'echo $(fib $1) $total', 'END']
    guest.type('\r'.join(lines) + '\r')
    guest.wait_for_prompt()
    fib = [0, 1]
    while len(fib) < 10:
        fib.append(fib[-1] + fib[-2])
    same(guest.run('sh /tmp/script 9; rm /tmp/script', 60), f'{fib[9]} {math.gcd(1071, 462) + math.gcd(54, 216) + math.gcd(17, 5)}', 'the script')


@case
def text_tools(guest):
    numbers = random_numbers(3000)
    make = "awk 'BEGIN {x = 42; for (i = 0; i < 3000; i++) {x = x * 16807 % 2147483647; printf \"%d\\n\", x}}'"
    ends = [str(number)[-1] for number in numbers]
    counted = sorted(((ends.count(digit), digit) for digit in set(ends)), reverse=True)
    line = f"{make} | sed 's/.*\\(.\\)$/\\1/' | sort | uniq -c | sort -rn | awk '{{print $1, $2}}' | tr '\\n' ' '; echo"
    same(guest.run(line, 60).split(), [str(part) for pair in counted for part in pair], 'last digits, counted')
    chosen = [str(number).replace('7', 'seven') for number in numbers if str(number).startswith('12')]
    same(guest.run(f"{make} | grep '^12' | sed 's/7/seven/g' | md5sum"), md5_lines(chosen) + '  -', 'lines chosen and changed')
    guest.run('for d in a b c; do for f in 1 2 3 4; do mkdir -p /tmp/tree/$d/$f; echo $d$f >/tmp/tree/$d/$f/text; : >/tmp/tree/$d/$f/empty; done; done')
    same(guest.run("find /tmp/tree -type f -size +0 -path '*/[ac]/*' | sort | xargs cat | tr '\\n' ' '").split(),
         [letter + digit for letter in 'ac' for digit in '1234'], 'files found')
    same(guest.run('find /tmp/tree -type d | wc -l; rm -r /tmp/tree'), '16', 'folders')


@case
def an_archive(guest):
    counts = (10, 5000, 60000)
    guest.run(f"mkdir /tmp/in /tmp/out; for n in {' '.join(map(str, counts))}; do seq 1 $n >/tmp/in/$n; done")
    guest.run('ln -s 10 /tmp/in/link; tar -c -C /tmp in | gzip >/tmp/all.gz && rm -r /tmp/in && gunzip -c /tmp/all.gz | tar -x -C /tmp/out', 60)
    expected = [f'{md5_lines(range(1, count + 1))}  {count}' for count in counts] + [f'{md5_lines(range(1, 11))}  link']
    names = ' '.join(map(str, counts))
    same(guest.run(f'cd /tmp/out/in; md5sum {names} link; cd; rm -r /tmp/out /tmp/all.gz').splitlines(), expected, 'digests')


@case
def a_large_pipe(guest):
    size = 12 << 20
    expected = hashlib.md5(b'x' * size).hexdigest()
    same(guest.run(f"head -c {size} /dev/zero | tr '\\0' x | cat | dd bs=3000 2>/dev/null | md5sum", 60), f'{expected}  -', 'MD5')


@case
def limits(guest):
    """Processes, processor time and memory that a program may not have."""
    guest.run('mkdir -p /tmp/groups; mount -t cgroup2 none /tmp/groups; mkdir /tmp/groups/few; echo +pids >/tmp/groups/cgroup.subtree_control; '
              'mkdir -p /tmp/groups/few; echo 25 >/tmp/groups/few/pids.max')
    bomb = "sh -c 'echo $$ >/tmp/groups/few/cgroup.procs; b() { b | b & }; b; sleep 1' 2>/dev/null"
    guest.run(f'{bomb}; for i in 1 2 3 4 5; do for p in $(cat /tmp/groups/few/cgroup.procs); do kill -9 $p; done; sleep 0.2; done 2>/dev/null', 60)
    same(guest.run('[ $(grep max /tmp/groups/few/pids.events | cut -d" " -f2) -gt 0 ] && echo refused; cat /tmp/groups/few/pids.current'),
         'refused\n0', 'a fork bomb')
    guest.run('rmdir /tmp/groups/few; umount /tmp/groups; rmdir /tmp/groups')
    holds(guest.run("sh -c 'ulimit -t 1; while :; do :; done'; echo code $?", 30), r'^code (137|152)$')
    holds(guest.run("sh -c 'ulimit -v 30000; awk \"BEGIN {s = \\\"x\\\"; while (1) s = s s}\"' 2>&1 | tail -n 1", 30), r'out of memory')


@case
def a_program_that_changes(guest):
    """A file's code is mapped, run, changed, and run again: what runs is what is in the file."""
    code = b'\xb8\x01\x00\x00\x00\xbb' + bytes([41, 0, 0, 0]) + b'\xcd\x80'
    header = struct.pack('<4sBBBB8xHHIIIIIHHHHHH', b'\x7fELF', 1, 1, 1, 0, 2, 3, 1, 0x8048054, 52, 0, 0, 52, 32, 1, 0, 0, 0)
    segment = struct.pack('<8I', 1, 0, 0x8048000, 0x8048000, 84 + len(code), 84 + len(code), 5, 0x1000)
    text = ''.join(f'\\{byte:03o}' for byte in header + segment + code)
    guest.run(f"printf '{text}' >/tmp/program; chmod +x /tmp/program")
    same(guest.run('/tmp/program; echo code $?'), 'code 41', 'as it was made')
    octal = ('1', '12', '123', '77', '200')
    line = f"for i in {' '.join(octal)}; do printf \"\\\\$i\" | dd of=/tmp/program bs=1 seek=90 conv=notrunc 2>/dev/null; /tmp/program; echo $?; done"
    same(guest.run(line).split(), [str(int(number, 8)) for number in octal], 'changed')
    guest.run('rm /tmp/program')


@case
def timers(guest):
    start = time.monotonic()
    text = guest.run('time sleep 1')
    host = time.monotonic() - start
    seconds = float(re.search(r'real\s+(?:\d+m\s*)?([\d.]+)', text)[1])
    if not 1 <= seconds <= min(host, 1.2 + guest.patience):
        raise GuestError(f'sleep 1 took {seconds} s by the guest, {host:.2f} s by the host')
    holds(guest.run('(sleep 0.5; echo second) & (sleep 0.2; echo first) & wait'), r'^first[\s\S]*second')


@case
def files(guest):
    guest.run('head -c 8m /dev/urandom >/tmp/one; cp /tmp/one /tmp/two', 60)
    same(guest.run('cmp /tmp/one /tmp/two && echo same'), 'same', 'a copy')
    line = 'gzip -c /tmp/one | gunzip -c | cmp - /tmp/two && echo same'
    same(guest.run(line, 90), 'same', 'gzip and back')
    line = 'mkdir /tmp/tree && tar -c -C / bin etc | tar -x -C /tmp/tree && cmp /bin/busybox /tmp/tree/bin/busybox && echo same'
    same(guest.run(line, 60), 'same', 'tar and back')
    same(guest.run('rm -r /tmp/tree /tmp/one /tmp/two; ls /tmp | wc -l'), '0', 'files left')


@case
def serial_line(guest):
    """A long line typed at full speed, and much output."""
    text = ''.join(chr(97 + number % 26) for number in random_numbers(200))
    same(guest.run(f"printf '{text}' | md5sum"), hashlib.md5(text.encode()).hexdigest() + '  -', 'typed text')
    same(guest.run('seq 1 4000', 60).split(), [str(number) for number in range(1, 4001)], 'printed numbers')


@case
def time_stamp(guest):
    """One that never stops needs nobody to watch it: a busy host does not make the guest's clock another, and slower, one."""
    text = guest.run('cat /proc/cpuinfo')
    if 'bt-vmm' not in text or 'nonstop_tsc' not in flags_of(Path('/proc/cpuinfo').read_text()):
        return  # another monitor is asked, or the host's may stop
    flags = flags_of(text)
    same([flag for flag in ('constant_tsc', 'nonstop_tsc', 'tsc_adjust') if flag in flags], ['constant_tsc', 'nonstop_tsc', 'tsc_adjust'], 'flags')
    same(guest.run('cat /sys/devices/system/clocksource/clocksource0/current_clocksource'), 'tsc', 'the clock')


@case
def kernel_messages(guest):
    """No complaint of the kernel's while all this went on."""
    text = guest.run('dmesg | grep -E "BUG|Oops|WARNING|Call Trace|soft lockup|segfault|general protection|unstable" | head -n 5')
    same(text, '', 'complaints')


def named(names):
    by_name = {function.__name__: function for function in CASES}
    unknown = [name for name in names if name not in by_name]
    if unknown:
        raise SystemExit(f'no such case: {unknown}; there are: {list(by_name)}')
    return [by_name[name] for name in names]
