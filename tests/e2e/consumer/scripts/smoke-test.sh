#!/usr/bin/env bash
# A few requests that must work before the version may have traffic. The addresses come from the
# port-forwards that the workflow holds open.
set -euo pipefail

curl --fail --silent --show-error --max-time 10 "$API_URL/version"
echo
curl --fail --silent --show-error --max-time 10 "$API_URL/api" >/dev/null
curl --fail --silent --show-error --max-time 10 "$WEB_URL/" >/dev/null
