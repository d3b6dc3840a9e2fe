#!/usr/bin/env bash
# A newcomer's first minutes, in an empty root file system with only Python, make and git: clone,
# `make run`, one request, `make test`; prints the time and disk of each. What is committed is what
# is rehearsed.
#
#   tests/deploy/rehearsal.sh [--without-test] [--keep]      PORT=3001 for another port than 3000
#
# Needs root on Debian, debootstrap and a package index. Elsewhere it takes an empty home on this
# machine instead, which proves less, and says so. Tests that need Chromium or npm skip, and say so.
set -euo pipefail

TEST=1
KEEP=
for flag in "$@"; do
    case $flag in
    --without-test) TEST= ;;
    --keep) KEEP=1 ;;
    *) echo "usage: $0 [--without-test] [--keep]" >&2 && exit 2 ;;
    esac
done

PORT=${PORT:-3000}
CHECKOUT=$(cd "$(dirname "$0")/../.." && pwd)
PLACE=$(mktemp -d)
HOUSE=$PLACE/root # the empty root file system
SERVER=

# End the service: what the process in the background started hears of it, and ends that process.
stop() {
    [[ -n $SERVER ]] || return 0
    # shellcheck disable=SC2046
    kill -TERM $(cat "/proc/$SERVER/task/$SERVER/children") || kill -TERM "$SERVER" || true
    wait "$SERVER" || true
    SERVER=
}

finish() {
    stop 2>/dev/null
    if [[ -n $KEEP ]]; then echo "kept in $PLACE"; else rm -rf "$PLACE"; fi
}
trap finish EXIT

# What follows INSIDE is a shell line that a newcomer runs, whose environment has nothing else.
CLEAN=(PATH=/usr/bin:/bin LANG=C.UTF-8 PIP_NO_CACHE_DIR=1)
SECONDS=0
if "$CHECKOUT/tests/deploy/empty_root.sh" "$HOUSE"; then
    echo "empty root file system: ${SECONDS} s, $(du -sm "$HOUSE" | cut -f 1) MB"
    FOLDER=$HOUSE/home/newcomer
    ENTER='mount -t proc proc "$0/proc" && mount -t tmpfs tmpfs "$0/dev/shm" && exec chroot --userspec=1000:1000 "$0" "$@"'
    INSIDE=(unshare --mount --pid --fork --kill-child sh -c "$ENTER" "$HOUSE"
        env -i HOME=/home/newcomer PIP_CERT=/etc/ssl/certs/ca-certificates.crt "${CLEAN[@]}" sh -c)
else
    echo "NOT an empty root file system: an empty home, which sees what else this machine has"
    FOLDER=$HOUSE
    mkdir -p "$FOLDER"
    INSIDE=(env -i HOME="$FOLDER" "${CLEAN[@]}" sh -c)
fi

# Time a part, and tell how much larger the newcomer's folder is after it.
part() {
    local name=$1 before after
    shift
    before=$(du -sm "$FOLDER" | cut -f 1)
    SECONDS=0
    "$@"
    after=$(du -sm "$FOLDER" | cut -f 1)
    echo "$name: ${SECONDS} s, $((after - before)) MB"
}

clone() {
    "${INSIDE[@]}" "cd && git clone --quiet project.git sidestep"
}

serve_until_ready() {
    "${INSIDE[@]}" "cd && cd sidestep && exec make run PORT=$PORT" >"$PLACE/serve.log" 2>&1 &
    SERVER=$!
    until grep -q "sidestep is ready" "$PLACE/serve.log"; do
        kill -0 "$SERVER" 2>/dev/null || { cat "$PLACE/serve.log" >&2 && exit 1; }
        sleep 0.2
    done
}

request() {
    "${INSIDE[@]}" "python3 -c '
import json, urllib.request as http
body = json.dumps({\"prompt\": \"red apple\", \"seed\": 7}).encode()
url = \"http://127.0.0.1:$PORT/generate\"
asked = http.Request(url, body, {\"Content-Type\": \"application/json\"})
picture = http.urlopen(asked).read()
assert picture.startswith(b\"\\x89PNG\"), picture[:99]
print(f\"a PNG of {len(picture)} bytes\")
'"
}

make_test() {
    "${INSIDE[@]}" "cd && cd sidestep && make test" >"$PLACE/test.log" 2>&1 ||
        { tail -n 50 "$PLACE/test.log" >&2 && exit 1; }
    grep -E "^SKIPPED|passed|failed" "$PLACE/test.log"
}

# Only what is committed, with no way back to this machine's checkout.
git clone --quiet --bare --no-local "$CHECKOUT" "$FOLDER/project.git"
[[ ! -d $HOUSE/proc ]] || chown -R 1000:1000 "$FOLDER/project.git"

part "git clone" clone
part "make run, until ready" serve_until_ready
part "one request" request
stop
[[ -z $TEST ]] || part "make test" make_test
