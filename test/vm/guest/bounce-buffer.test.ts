/** Bounce buffers of a driver in the kernel: in our memory, in the kernel's, and under a driver that lies about them. */
import { closeSync, openSync, readdirSync, readFileSync, readlinkSync, readSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { VIRTQ_DESC_F_NEXT, VIRTQ_DESC_F_WRITE } from '../../../assembly/virtio.js';
import { Aperture } from '../../../host/aperture/aperture.js';
import { BlockDevice } from '../../../host/index.js';
import { loadAddon } from '../../../host/native/addon.js';
import * as vduse from '../../../host/uapi/vduse.js';
import { NEIGHBOUR, WRITTEN } from '../direct-io-bytes.js';
import { imageFile, run, withDisk } from '../disk-fixture.js';
import { bindDriver, shell, unbindDriver, until } from '../fixture.js';

const BYTES = 8 * 2 ** 20;
/** IOVA inside the bounce region, far beyond what a few requests use: no page is behind it in the kernel's file. */
const UNBACKED = 0x2_00_0000n;
/** Descriptors that a driver with one request at a time never comes to. */
const FIRST = 200;

/** Kilobytes that this process has pinned. */
const pinned = () => Number(/^VmPin:\s*(\d+)/m.exec(readFileSync('/proc/self/status', 'utf8'))![1]);

/** What this process has open, by descriptor. */
function openFiles(): string[] {
  const files: string[] = [];
  for (const fd of readdirSync('/proc/self/fd')) {
    try {
      files[Number(fd)] = readlinkSync(`/proc/self/fd/${fd}`);
    } catch {
      // The one that reading the folder took.
    }
  }
  return files;
}

/** The bounce buffer as the device has it, in this process. */
function bounceBuffer(): Buffer {
  const maps = readFileSync('/proc/self/maps', 'utf8');
  const [, start, end] = /^([0-9a-f]+)-([0-9a-f]+) .*memfd:bounce-buffer/m.exec(maps) ?? [];
  const buffer = Buffer.alloc(Number.parseInt(end!, 16) - Number.parseInt(start!, 16));
  const memory = openSync('/proc/self/mem', 'r');
  assert.is(readSync(memory, buffer, 0, buffer.length, Number.parseInt(start!, 16)), buffer.length);
  closeSync(memory);
  return buffer;
}

/** Makes a read request available behind the driver's back, with `UNBACKED` as its buffer. */
function forge(name: string): void {
  const fd = openFiles().indexOf(`/dev/vduse/${name}`);
  const info = vduse.vduseVqInfo.encode({ index: 0 });
  loadAddon().ioctl(fd, vduse.VDUSE_VQ_GET_INFO, info);
  const { desc_addr, driver_addr, num } = vduse.vduseVqInfo.decode(info);
  const entry = vduse.vduseIotlbEntry.encode({ start: desc_addr, last: desc_addr });
  const region = loadAddon().ioctl(fd, vduse.VDUSE_IOTLB_GET_FD, entry);
  const { offset, start, last } = vduse.vduseIotlbEntry.decode(entry);
  const aperture = Aperture.create({ bytes: 2 ** 24, privateBytes: 2 ** 16 });
  const window = aperture.map({ fd: region, offset }, Number(last - start + 1n), 'rw');
  loadAddon().close(region);
  const rings = new DataView(aperture.memory.buffer, window.linear, window.bytes);
  const descriptor = (index: number) => Number(desc_addr - start) + index * 16;
  const describe = (index: number, addr: bigint, len: number, flags: number, next: number) => {
    rings.setBigUint64(descriptor(index), addr, true);
    rings.setUint32(descriptor(index) + 8, len, true);
    rings.setUint16(descriptor(index) + 12, flags, true);
    rings.setUint16(descriptor(index) + 14, next, true);
  };
  // Header and status byte in a descriptor that names nothing: all zeros is a read of sector 0.
  describe(FIRST + 3, 0n, 0, 0, 0);
  const spare = desc_addr + BigInt(FIRST + 3) * 16n;
  describe(FIRST, spare, 16, VIRTQ_DESC_F_NEXT, FIRST + 1);
  describe(FIRST + 1, UNBACKED, 4096, VIRTQ_DESC_F_NEXT | VIRTQ_DESC_F_WRITE, FIRST + 2);
  describe(FIRST + 2, spare + 15n, 1, VIRTQ_DESC_F_WRITE, 0);
  const avail = Number(driver_addr - start);
  const index = rings.getUint16(avail + 2, true);
  rings.setUint16(avail + 4 + (index % num) * 2, FIRST, true);
  rings.setUint16(avail + 2, (index + 1) & 0xffff, true);
  aperture.close();
}

test('they are memory of the process from the first request to the reset, for each driver anew', async () => {
  const file = imageFile(BYTES);
  await withDisk(
    new BlockDevice({ file }),
    { driver: 'virtio_vdpa' },
    async ({ device, name, path, errors }) => {
      shell(`cmp ${path} ${file}`);
      assert.is(device.bounceBuffer, 'umem');
      assert.is(pinned(), 65536);
      await unbindDriver(name);
      await until('the end of the bounce buffer', () => device.bounceBuffer === 'none');
      assert.is(pinned(), 0);
      await bindDriver(name, 'virtio_vdpa');
      shell(`cmp ${path} ${file}`);
      assert.is(device.bounceBuffer, 'umem');
      assert.equal(errors, []);
    },
  );
  assert.is(pinned(), 0);
});

test('what lies beside the bytes of a request never gets there', async () => {
  const program = fileURLToPath(new URL('../direct-io.js', import.meta.url));
  await withDisk(new BlockDevice({ memory: BYTES }), { driver: 'virtio_vdpa' }, async ({ path, errors }) => {
    await run(`${process.execPath} ${program} ${path} 400`);
    const buffer = bounceBuffer();
    assert.ok(buffer.includes(WRITTEN), 'what was written is seen');
    assert.not(buffer.includes(NEIGHBOUR), 'a byte of the process that wrote');
    assert.equal(errors, []);
  });
});

test('where the process may not pin as much, they are the kernel’s, and that shows', async () => {
  const program = `import { BlockDevice, serve } from '${new URL('../../../host/index.js', import.meta.url)}';
    const device = await serve(new BlockDevice({ memory: ${BYTES} }), { name: 'limited', transport: 'vduse' });
    device.once('bounceBuffer', (where, why) => {
      console.log(where, why);
      device.once('reset', () => device.close());
    });
    console.log('served');`;
  // Root may raise any limit, unless it has been told otherwise for good.
  const served = run(
    `ulimit -l 8192; exec setpriv --bounding-set -sys_resource ${process.execPath} --input-type=module -e "${program}"`,
  );
  await until('the device', () => readdirSync('/sys/bus/vdpa/devices').includes('limited'));
  await bindDriver('limited', 'virtio_vdpa');
  await unbindDriver('limited');
  assert.match(await served, /^fd EPERM/m);
});

test('a buffer that has no page in the kernel breaks the device, which a new driver mends; nothing else comes to harm', async () => {
  const other = imageFile(BYTES);
  await withDisk(new BlockDevice({ file: other }), { driver: 'virtio_vdpa' }, async (bystander) => {
    const options = { driver: 'virtio_vdpa', umem: false } as const;
    await withDisk(new BlockDevice({ memory: BYTES }), options, async ({ device, name, path, errors }) => {
      shell(`dd if=${path} of=/dev/null bs=4k count=4 iflag=direct`);
      assert.is(device.bounceBuffer, 'fd');
      // The kernel's descriptors are not close-on-exec: a child would have the driver's memory.
      assert.not(openFiles().some((file) => file?.includes('vduse-domain')));
      forge(name);
      await until('an error', () => errors.length > 0);
      assert.match(errors[0]!, /^ERR_MEMORY_LOST.*no DEVICE_NEEDS_RESET/);
      shell(`cmp ${bystander.path} ${other}`);
      await unbindDriver(name);
      await bindDriver(name, 'virtio_vdpa');
      shell(`dd if=${path} of=/dev/null bs=4k count=4 iflag=direct`);
      assert.is(errors.length, 1);
    });
    assert.equal(bystander.errors, []);
  });
});

test('in memory of the process the same buffer is one like any other', async () => {
  await withDisk(
    new BlockDevice({ memory: BYTES }),
    { driver: 'virtio_vdpa' },
    async ({ device, name, path, errors }) => {
      shell(`dd if=${path} of=/dev/null bs=4k count=4 iflag=direct`);
      const { requests } = device.stats();
      forge(name);
      await until('a request', () => device.stats().requests > requests);
      assert.equal(errors, []);
    },
  );
});

test.run();
