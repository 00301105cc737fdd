"""What `helm test` runs: asks every part of the platform from inside the cluster. Standard library only."""

import json
import os
import socket
import sys
import time
import urllib.error
import urllib.request

DOOR, PEOPLE, HOST = os.environ["DOOR"], os.environ["PEOPLE"], os.environ["HOST_NAME"]


def page(address, host=""):
    asked = urllib.request.Request(address, headers={"Host": host} if host else {})
    with urllib.request.urlopen(asked, timeout=10) as answer:
        return answer.read().decode(errors="replace")


def sign_in():
    text = page(f"http://proxy:{DOOR}/sign-in", f"{HOST}:{DOOR}")
    assert "<form" in text, f"no form on the sign-in page: {text[:300]}"


def issuer():
    found = json.loads(page(f"http://proxy:{DOOR}/.well-known/openid-configuration", f"{HOST}:{DOOR}"))
    assert found["issuer"].endswith(f"//{HOST}:{DOOR}"), found["issuer"]


def hub():
    page(f"http://proxy:{DOOR}/hub/health", f"{HOST}:{DOOR}")


def gateway():
    socket.create_connection(("gateway", int(PEOPLE)), 10).close()


def objects():
    page("http://objects:7070/health")


def closed():
    try:
        socket.create_connection(("proxy", 8001), 3).close()
    except OSError:
        return
    sys.stdout.write(
        "note   the proxy's API can be reached from here: this cluster does not enforce network policies\n"
    )


def main():
    failed = 0
    for check in [sign_in, issuer, hub, gateway, *([objects] if os.environ["OBJECTS"] == "true" else []), closed]:
        for attempt in range(10):
            try:
                check()
            except (OSError, AssertionError, KeyError, ValueError, urllib.error.URLError) as error:
                if attempt < 9:
                    time.sleep(2)
                    continue
                sys.stdout.write(f"failed {check.__name__}: {error}\n")
                failed += 1
            else:
                sys.stdout.write(f"passed {check.__name__}\n")
                break
    return 1 if failed else 0


sys.exit(main())
