"""A program that misbehaves as it is told: by its first argument before it reads, then by the steps of its prompt.

Run by `stub_program.Stub`, never imported. Its second argument is a tag, by which it and all that it starts are found.
"""

import json
import os
import signal
import subprocess
import sys
import time

MODE, TAG = sys.argv[1:3]


def say(**event: object) -> None:
    write(json.dumps(event) + "\n")


def write(text: str, encoding: str = "utf-8") -> None:
    data = text.encode(encoding)
    while data:
        data = data[os.write(1, data) :]


def sleep_for_ever() -> None:
    while True:
        time.sleep(3600)


def ignore(*names: str) -> None:
    for name in names:
        signal.signal(getattr(signal, f"SIG{name}"), signal.SIG_IGN)


def start(mode: str, *, empty: bool = False, session: bool = True, **how: object) -> int:
    """Another of this, up and running when this returns."""
    read, written = os.pipe()
    process = subprocess.Popen(  # noqa: S603  # this file itself
        [sys.executable, __file__, mode, TAG, str(written)],
        pass_fds=(written,),
        env={} if empty else None,
        start_new_session=session,
        stdin=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        **{"stdout": subprocess.DEVNULL, **how},
    )
    os.close(written)
    assert os.read(read, 1) == b"1"
    os.close(read)
    return process.pid


def up() -> None:
    os.write(int(sys.argv[3]), b"1")
    os.close(int(sys.argv[3]))


def move(path: str, wait_s: float) -> None:
    """Be somebody else all the time, in a session of his own, and leave a mark each time."""
    for number in range(20_000):
        if os.fork():
            os._exit(0)
        os.setsid()
        with open(path, "w") as file:
            file.write(f"{number}")
        time.sleep(wait_s)


class Steps:
    """What a prompt may ask for, each by the name of its method."""

    def say(self, **event: object) -> None:
        say(**event)

    def write(self, text: str, encoding: str = "utf-8") -> None:
        write(text, encoding)

    def big(self, chars: int) -> None:
        write('{"text": "' + "x" * chars + '"}\n')

    def many(self, count: int, chars: int = 1) -> None:
        for number in range(count):
            say(text=f"{number}:" + "y" * chars)

    def errors(self, text: str = "", count: int = 1) -> None:
        sys.stderr.write(text * count)
        sys.stderr.flush()

    def ignore(self, names: list[str]) -> None:
        ignore(*names)

    def start(self, mode: str, **how: object) -> None:
        say(notice=f"{start(mode, **how)}")

    def start_with_stdout(self, mode: str = "stubborn") -> None:
        start(mode, stdout=None)

    def echo_env(self, variable: str) -> None:
        value = os.environ.get(variable, "")
        say(text=f"text {value}", raw=value)
        say(tool=f"tool {value}")
        sys.stderr.write(f"stderr {value}\n")
        sys.stderr.flush()
        say(error="auth", message=f"error {value}")

    def env(self) -> None:
        # The key backwards: as it is, it would not get through.
        say(text=json.dumps({name: text[::-1] if name == "STUB_KEY" else text for name, text in os.environ.items()}))

    def look(self, names: list[str]) -> None:
        for name in names:
            path = os.path.join(sys.argv[3], name)
            with open(path) as file:
                say(text=f"{name}: {os.stat(path).st_mode & 0o777:o} {file.read()}")

    def where(self) -> None:
        say(text=os.getcwd())

    def lock(self) -> None:
        os.makedirs(os.path.join(sys.argv[3], "locked", "inner"))
        os.chmod(os.path.join(sys.argv[3], "locked"), 0)

    def close_stdout(self) -> None:
        os.close(1)

    def on_term(self, chars: int) -> None:
        def last_words(*_: object) -> None:
            write("z" * chars)
            os._exit(3)

        signal.signal(signal.SIGTERM, last_words)

    def flood(self, chars: int) -> None:
        while True:
            write(('{"other": "' + "x" * chars + '"}\n') * 100)

    def cut_key(self) -> None:
        key = os.environ["STUB_KEY"]
        say(clip="y" * 90 + key)
        write('{"clip": "' + "y" * 90 + "".join(f"\\u{ord(char):04X}" for char in key) + '"}\n')
        write("x" * 490 + key + "\n" + "x" * 3990 + key + "\n")
        sys.stderr.write(f"{key[:10]}\n{key[10:]}\r\n{'z' * 490}{key}\n")
        sys.stderr.flush()

    def hang(self) -> None:
        sleep_for_ever()

    def await_file(self, path: str) -> None:
        while not os.path.exists(path):
            time.sleep(0.01)

    def note(self, path: str, line: str) -> None:
        with open(path, "a") as file:
            file.write(f"{line}\n")

    def processes(self, path: str) -> None:
        self.note(path, " ".join(os.listdir("/proc")))

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)

    def exit(self, code: int) -> None:
        os._exit(code)

    def kill(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)


def main() -> None:
    if MODE == "obedient":
        up()
        sleep_for_ever()
    elif MODE == "stubborn":
        ignore("INT", "TERM", "HUP")
        up()
        sleep_for_ever()
    elif MODE == "dripping":
        up()
        while True:
            write("\n")
            time.sleep(0.02)
    elif MODE == "parent of emptied":
        start("stubborn", empty=True)
        up()
        sleep_for_ever()
    elif MODE == "moving":
        path, wait_s = os.environ["MOVING"].split("|")
        up()
        move(path, float(wait_s))
    elif MODE == "silent":
        sleep_for_ever()
    elif MODE == "deaf":
        say(text="I do not read")
        say(done="done")
        sleep_for_ever()
    elif MODE == "deaf and waiting":
        say(text="I do not read")
        sleep_for_ever()
    elif MODE == "closed":
        os.close(0)
        say(text="closed")
        say(done="done")
    else:
        for step in json.loads(sys.stdin.buffer.read()):
            getattr(Steps(), step.pop("do"))(**step)


main()
