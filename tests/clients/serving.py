"""A `bps serve` with a repository of its own, on free ports."""

import shutil
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request

TOKEN = "a-token-for-the-client-port"
ADMIN_TOKEN = "a-token-for-the-admin-port"

# Seconds. Starting includes measuring the model on the processor.
START_MAX = 120
STOP_MAX = 60


def free_port():
    """A port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Server:
    """Runs within a `with` block."""

    def __init__(self, bps, model, folder, more, token=None):
        self.folder = folder
        self.repository = folder / "models"
        self.model = self.repository / "digits" / "model.onnx"
        shutil.copytree(model, self.model.parent, ignore=shutil.ignore_patterns("*.bin", "*.md"))
        self.digits = model / "digits.bin"
        self.port, self.admin_port = free_port(), free_port()
        self.address, self.admin_address = f"127.0.0.1:{self.port}", f"127.0.0.1:{self.admin_port}"
        self.url, self.admin_url = f"http://{self.address}", f"http://{self.admin_address}"
        self.command = [
            *(bps.resolve(), "serve", "--models", self.repository, "--device", "cpu"),
            *("--listen", self.address, "--admin", self.admin_address),
            *("--state-dir", folder / "state", "--admin-token-file", self.secret("admin-token", ADMIN_TOKEN)),
            *more,
        ]
        if token:
            self.command += ["--token-file", self.secret("token", token)]

    def secret(self, name, token):
        path = self.folder / name
        path.touch(mode=0o600)
        path.write_text(token + "\n")
        return path

    def __enter__(self):
        self.log = open(self.folder / "log", "w+")
        self.process = subprocess.Popen(self.command, stdout=self.log, stderr=subprocess.STDOUT)
        for _ in range(START_MAX * 10):
            if self.process.poll() is not None:
                break
            try:
                urllib.request.urlopen(f"{self.url}/v2/health/ready", timeout=5).close()
                return self
            except (urllib.error.URLError, OSError):
                time.sleep(0.1)
        self.stop()
        raise RuntimeError(f"bps did not start:\n{self.said()}")

    def __exit__(self, *_):
        self.stop()

    def said(self):
        self.log.flush()
        return (self.folder / "log").read_text()

    def stop(self):
        """Asks it to end, makes it end if it does not; its exit status."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(STOP_MAX)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.log.close()
        return self.process.returncode


def stops_by_signal(tally, server):
    status = server.stop()
    tally.check("SIGTERM ends it with status 0", status == 0, f"status {status}")
