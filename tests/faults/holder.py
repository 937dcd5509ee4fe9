"""A process that holds a workspace until its standard input ends: python -m tests.faults.holder URL RENEW EXPIRE"""

import sys

from seewhy.failure import Fatal
from seewhy.lease import hold


def main() -> None:
    url, renew, expire = sys.argv[1:]
    try:
        with hold(url, study="holder", renew_sec=float(renew), expire_sec=float(expire)):
            print("held", flush=True)
            sys.stdin.read()
    except Fatal as error:
        print(error, flush=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
