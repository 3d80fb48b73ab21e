#!/bin/sh
# A lock, its fencing token, and a holder that comes too late.
#
# Run it beside `jangada dev`:  sh examples/fencing.sh [path to jangada]
set -eu
jangada=${1:-jangada}

# Writes NAME=VALUE only while the key of the lock is the one that was created at this revision.
fenced_put() {
    "$jangada" txn <<END
create("$1") = "$2"

put $3 $4

END
}

# Under the lock, all is well. The command finds the key and the token in its environment.
"$jangada" lock example -- sh -c 'echo "$JANGADA_LOCK_KEY $JANGADA_LOCK_REV"' > fencing.token
read -r key token < fencing.token
rm fencing.token
echo "held $key with the token $token"

# By now the lock is given up, but this program does not know that yet.
if fenced_put "$key" "$token" example/result late | grep -q SUCCESS; then
    echo "written without the lock: that must not be" >&2
    exit 1
fi
echo "too late: nothing was written"
