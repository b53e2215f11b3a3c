#!/usr/bin/env bash
# Boots a systemd over a copy of this machine's files and runs one command in it: boot.sh FOLDER COMMAND...
#
# Nothing that happens there reaches this machine: all writes go to memory, which is gone at the end, and the network is
# one of its own. FOLDER is seen as /siod-test and is shared; what the command prints is in FOLDER/log, what the boot
# prints in FOLDER/console. The exit status is the command's. Needs root and systemd-nspawn.
set -euo pipefail

folder=$(realpath "$1")
shift
printf -v command '%q ' "$@"
name=siod-$$
export folder name

# systemd wants a control group of its own, in the unified hierarchy and in the old one where there is one.
groups=()
for hierarchy in systemd unified; do
    [[ -d /sys/fs/cgroup/$hierarchy ]] && groups+=("/sys/fs/cgroup/$hierarchy")
done
((${#groups[@]})) || groups=(/sys/fs/cgroup)
upper=$(mktemp -d)
export upper
clean() {
    for group in "${groups[@]}"; do
        find "$group/$name" -depth -type d -exec rmdir {} \; 2>/dev/null || :
    done
    rmdir "$upper"
}
trap clean EXIT
for group in "${groups[@]}"; do
    mkdir -p "$group/$name"
done

cat >"$folder/siod-test.target" <<'UNIT'
[Unit]
Requires=basic.target siod-test.service
After=basic.target
AllowIsolate=yes
UNIT
cat >"$folder/siod-test.service" <<UNIT
[Unit]
After=basic.target
[Service]
Type=oneshot
Environment=RUST_BACKTRACE=0
ExecStart=/bin/bash -c 'exec $command >/siod-test/log 2>&1'
ExecStopPost=/bin/sh -c 'systemctl --no-block exit \$EXIT_STATUS'
UNIT

inside() {
    set -eu
    mount -t tmpfs siod-test "$upper"
    mkdir "$upper/changes" "$upper/work" "$upper/root"
    mount -t overlay -o "lowerdir=/,upperdir=$upper/changes,workdir=$upper/work" siod-test "$upper/root"
    cd "$upper/root"
    # What this machine mounts and starts is not needed there, and its refusal to start services does not hold.
    rm -rf var/log/journal usr/sbin/policy-rc.d etc/systemd/system/*.wants
    : >etc/fstab
    cp "$folder/siod-test.target" "$folder/siod-test.service" etc/systemd/system/
    export SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1
    exec timeout 900 systemd-nspawn --quiet --directory="$upper/root" --machine="$name" \
        --register=no --keep-unit --console=pipe --private-network \
        --link-journal=no --resolv-conf=off --timezone=off \
        --capability=all --system-call-filter="bpf @keyring" \
        --bind="$folder:/siod-test" --boot -- \
        systemd.unit=siod-test.target systemd.mask=nftables.service systemd.mask=systemd-firstboot.service \
        </dev/null >"$folder/console" 2>&1
}
export -f inside

(
    for group in "${groups[@]}"; do
        echo "$BASHPID" >"$group/$name/cgroup.procs"
    done
    exec unshare --mount --propagation=private bash -c inside
)
