"""The plugin that people write: established connections by psutil, against 600 and 800."""

import sys

import psutil

WARNING, CRITICAL = 600, 800


def main() -> int:
    connections = psutil.net_connections(kind="tcp")
    established = sum(1 for connection in connections if connection.status == psutil.CONN_ESTABLISHED)
    code, word = 0, "OK"
    if established > CRITICAL:
        code, word = 2, "CRITICAL"
    elif established > WARNING:
        code, word = 1, "WARNING"
    print(f"TCP {word}: {established} established | established={established};{WARNING};{CRITICAL};0;")
    return code


if __name__ == "__main__":
    try:
        sys.exit(main())
    except psutil.Error as error:
        print(f"TCP UNKNOWN: {error}")
        sys.exit(3)
