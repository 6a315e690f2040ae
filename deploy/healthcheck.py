"""Exit 0 if a server of this container answers, for HEALTHCHECK: `healthcheck.py VARIABLE DEFAULT PATH`.

VARIABLE is the setting that names its port. With CHURN_TLS_CERT it is asked by HTTPS; whom the certificate is made
out to does not matter here.
"""

import os
import ssl
import sys
import urllib.error
import urllib.request


def main() -> int:
    """The exit code that Docker reads: 0 is healthy, 1 is not."""
    variable, default, path = sys.argv[1:]
    scheme = "https" if os.environ.get("CHURN_TLS_CERT") else "http"
    url = f"{scheme}://127.0.0.1:{os.environ.get(variable) or default}{path}"
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context))
    try:
        with opener.open(url, timeout=4) as response:
            print(url, response.status)
            return 0
    except OSError as error:  # URLError, HTTPError and a timeout are
        print(url, error)
        return 1


if __name__ == "__main__":
    raise SystemExit(main())
