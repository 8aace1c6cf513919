"""What ``make demo`` runs inside the lab's namespace: the daemon, one scrape of it, and the plugin's answer."""

from __future__ import annotations

import re
import subprocess
import sys
import time
import urllib.error
import urllib.request


def main() -> None:
    """Start the daemon, show what a scrape of it says of the lab's sockets, and let the plugin judge them."""
    command = [sys.executable, "-m", "exporter", "--web.listen-address", "127.0.0.1:0", "--log.format", "logfmt"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as daemon:
        try:
            assert daemon.stderr is not None
            url = next(found[1] for line in daemon.stderr if (found := re.search(r"address=(\S+)", line)))
            print("\nThe daemon's listener and the ends of this scrape's connections come on top of the lab's sockets.")
            print(f"\n$ curl {url}/metrics | grep tcp_connections{{")
            while _get(f"{url}/-/ready") is None:
                time.sleep(0.2)  # each question leaves a TIME-WAIT behind, so few are asked
            page = _get(f"{url}/metrics") or ""
            print("\n".join(line for line in page.splitlines() if line.startswith("tcp_connections{")))
        finally:
            daemon.terminate()
    print("\n$ check_tcp_states -v", flush=True)
    subprocess.run([sys.executable, "-c", "from exporter.nagios.check import main; main()", "-v"], check=False)


def _get(url: str) -> str | None:
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=10) as answer:
            return str(answer.read(), "utf-8")
    except urllib.error.HTTPError:
        return None


if __name__ == "__main__":
    main()
