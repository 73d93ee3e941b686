#!/bin/sh
# Makes client.js of client.ts. The first line tells from which, for the test.
set -eu
cd "$(dirname "$0")"
npx --yes --package typescript@5.6.3 tsc --target es2022 --module es2022 --lib es2022,dom,dom.iterable --strict client.ts
{ echo "// Made of client.ts by build.sh: sha256 $(sha256sum client.ts | cut -d' ' -f1)"; cat client.js; } > client.js.new
mv client.js.new client.js
