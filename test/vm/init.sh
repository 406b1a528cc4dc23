#!/bin/busybox sh
# The first process of a guest. It makes the host's root directory, read-only, the root of a shell that runs agent.sh, and
# powers off. What the host reads goes to the second serial port; the first is the kernel's console.
# Words on the kernel's command line: ringbell.checkout=PATH, where this checkout is on the host.
busybox=/bin/busybox
$busybox mount -t proc proc /proc
$busybox mount -t sysfs sysfs /sys
$busybox mount -t devtmpfs devtmpfs /dev
$busybox --install -s
export PATH=/usr/sbin:/usr/bin:/sbin:/bin

finish() {
  printf '\001exit %s\n' "$1" >/dev/ttyS1
  sync
  # QEMU runs with -no-reboot.
  reboot -f
}

give_up() {
  echo "the guest cannot start: $1" >/dev/ttyS0
  finish 125
}

stty -F /dev/ttyS1 raw -echo
for word in $(cat /proc/cmdline); do
  case $word in ringbell.checkout=*) checkout=${word#*=} ;; esac
done

modprobe virtio_pci 2>/dev/null
modprobe 9pnet_virtio || give_up 9pnet_virtio
modprobe 9p || give_up 9p
mount -t 9p -o ro,trans=virtio,version=9p2000.L,msize=512000,cache=loose host /host || give_up "the host's root directory"
mount --bind /proc /host/proc
mount --bind /sys /host/sys
mount --bind /dev /host/dev
mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /host/dev/pts
mount -t tmpfs tmpfs /host/dev/shm
mount -t tmpfs tmpfs /host/run
mkdir -p /host/run/lock /host/run/ringbell-vm/lib/modules /host/run/ringbell-vm/share /host/run/ringbell-vm/scratch
mount --bind /lib/modules /host/run/ringbell-vm/lib/modules
mount -t 9p -o trans=virtio,version=9p2000.L,msize=512000,cache=none share /host/run/ringbell-vm/share ||
  give_up 'the folder for results'
ip link set lo up

chroot /host /bin/sh "$checkout/test/vm/agent.sh" </dev/ttyS1 >/dev/ttyS1 2>&1
finish $?
