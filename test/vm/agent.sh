#!/bin/sh
# What a guest does once it has the host's files. The plan says: MODE, NODE, CHECKOUT, LIMIT_S, COMMAND; the file "files" beside
# it lists the tests. A line that begins with \001 is for the harness on the host: ready, begin FILE, end FILE STATUS.
share=/run/ringbell-vm/share
. $share/plan
export HOME=/run/ringbell-vm TMPDIR=/run/ringbell-vm/scratch NO_COLOR=1 FORCE_COLOR=0
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export RINGBELL_VM_MODULES=/run/ringbell-vm RINGBELL_VM_ARTEFACTS=$share/artefacts

for module in vduse vhost_vdpa virtio_vdpa virtio_blk virtio_net; do
  modprobe -d $RINGBELL_VM_MODULES $module || echo "no module $module"
done
# A device goes to the driver that a test names, not to the module that was loaded first.
echo 0 >/sys/bus/vdpa/drivers_autoprobe

# Processes that a test started, by the environment that they inherited.
processes() {
  grep -lz '^RINGBELL_VM_FILE=' /proc/[0-9]*/environ 2>/dev/null | cut -d/ -f3
}

# Devices and processes that a test should have removed.
remains() {
  for process in $(processes); do
    echo "process $(tr '\0' ' ' <"/proc/$process/cmdline")"
  done
  ls /sys/bus/vdpa/devices
  ls /dev/vduse | grep -vx control
}

# Devices first: the kernel waits for the requests in flight, which a server that still runs answers.
clear_remains() {
  for device in /sys/bus/vdpa/devices/*; do
    [ -e "$device" ] && vdpa dev del "${device##*/}"
  done
  for process in $(processes); do kill -9 "$process"; done
}

run_file() {
  printf '\001begin %s\n' "$1"
  mount -t tmpfs -o size=75% tmpfs $TMPDIR
  lines=$(dmesg | wc -l)
  # A process that no signal ends holds up timeout as well: then the kernel says what it waits for, and the host ends all.
  (sleep $((LIMIT_S + 10)) && echo 8 >/proc/sysrq-trigger && echo w >/proc/sysrq-trigger) &
  watchdog=$!
  (
    cd $TMPDIR && export RINGBELL_VM_FILE="$1" &&
      exec timeout --kill-after=5 "$LIMIT_S" "$NODE" --expose-gc "$CHECKOUT/dist/test/vm/$1"
  ) </dev/null 2>&1
  status=$?
  [ $status = 124 ] && echo "killed after $LIMIT_S s"
  # What is just ending gets a moment.
  for moment in 1 2 3 4 5; do
    left=$(remains)
    [ -n "$left" ] && sleep 0.4 || break
  done
  if [ -n "$left" ]; then
    echo 'left behind:' $left
    clear_remains
    [ $status = 0 ] && status=123
  fi
  kill $watchdog
  wait $watchdog 2>/dev/null
  [ $status = 0 ] || { echo 'kernel:' && dmesg | tail -n +$((lines + 1)) | tail -n 40; }
  umount -l $TMPDIR
  printf '\001end %s %s\n' "$1" $status
}

printf '\001ready\n'
case $MODE in
files) while read -r file; do run_file "$file"; done <$share/files ;;
command)
  mount -t tmpfs -o size=75% tmpfs $TMPDIR
  cd "$CHECKOUT" && sh -c "$COMMAND" </dev/null
  ;;
shell)
  mount -t tmpfs -o size=75% tmpfs $TMPDIR
  stty sane rows "$ROWS" columns "$COLUMNS"
  unset NO_COLOR FORCE_COLOR
  export TERM="$GUEST_TERM"
  cd "$CHECKOUT" && setsid --ctty --wait bash -i
  ;;
esac
