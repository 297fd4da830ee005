#!/usr/bin/env bash
# Updates one server, which is out of the traffic.
set -euo pipefail

exec ssh "deploy@$SERVER_HOST" sudo systemctl restart "web@$EXPECT_VERSION"
